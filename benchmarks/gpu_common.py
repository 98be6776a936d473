"""Sizes, clocks and rows that the sections of `gpu.py` share."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the sections."""

    models: Mapping[str, str]
    """Role -> name in `random_llama`: right, dpo, sft, grpo, judge, sample."""
    vocabularies: Mapping[str, int]
    """Role -> tokens of the vocabulary."""
    folder: str
    """Folder of the models, by role."""
    lengths: str
    """Lengths of prompts and responses (`random_pairs`)."""
    attention: tuple[int, int, int]
    """Query heads, key heads and size of a head."""
    attention_groups: int
    prompts: int
    """Prompts of a step."""
    budget: int
    """Tokens of a pass of SFT and adapters."""
    judged: int
    """Prompts that are judged, with 4 answers each."""
    rubric: int
    """Tokens of the rubric."""
    rounds: int
    seed: int


def compared(what: str, ours: Sequence[float], theirs: Sequence[float], scale: float = 1.0) -> Row:
    """A row of two sides' times in alternated rounds."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=False)]
    return {
        "what": what,
        "ours": scale * statistics.median(ours),
        "theirs": scale * statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
        "n": len(ratios),
    }


def bar_of(row: Row, least: float) -> Row:
    return {"bar": f">= {least:g}x", "held": row["ratio"] >= least}


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Peak memory of the GPU in MB since the start of the block; 0 without one."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    yield lambda: torch.cuda.max_memory_allocated() / 2**20 if DEVICE.type == "cuda" else 0.0


def peaks_of(*peaks_mb: float) -> Row:
    """The row's entry of peak memory; empty without a GPU, where it is not measured."""
    return {"peak_mb": list(peaks_mb)} if DEVICE.type == "cuda" else {}


def now() -> float:
    """The clock in seconds, after all work of the GPU."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def free_memory() -> None:
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def half() -> Any:
    return "bfloat16" if DEVICE.type == "cuda" else "float32"


def first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return f"{type(error).__name__}: {text.splitlines()[0]}"[:300]
