"""Write and read checkpoint-N folders: weights, optimiser and progress.

Random states are not saved: every draw derives from (seed, step). Files hold whole tensors, so that
a run may be resumed on another number of processes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from alignlab.errors import BadInput
from alignlab.models.adapters import is_adapted
from alignlab.models.load import LanguageModel, replace_folder, save
from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext
from alignlab.training.precision import Weights

STATE = "training_state"
"""Stem of the two files of a training's state."""


@dataclass
class Progress:
    """Progress of a run."""

    run: str
    """Hash of configuration, objective, data and initial weights."""
    step: int = 0
    """Optimiser steps done."""
    tokens: int = 0
    """Stream tokens trained on."""
    lines: int = 0
    """Lines of metrics.jsonl."""
    best_step: int | None = None
    """Step with the best validation value."""
    best_value: float | None = None
    """Best validation value."""
    window: dict[str, list[float]] = field(default_factory=dict)
    """Name -> sum and weight of a metric since the last line."""
    carried: dict[str, float] = field(default_factory=dict)
    """State of rollout training between batches."""


def newest(out: Path) -> Path | None:
    """Return the newest complete checkpoint of a run, if there is one."""
    found = [p for p in out.glob("checkpoint-*") if (p / f"{STATE}.json").is_file()]
    numbered = [p for p in found if p.name.removeprefix("checkpoint-").isdigit()]
    return max(numbered, key=_step, default=None)


def write(
    lm: LanguageModel,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    out: Path,
    *,
    keep: int,
    world: DistributedContext = SINGLE_PROCESS,
) -> None:
    """Write checkpoint-N of the current step, atomically, and delete all but the newest `keep`.

    The folder is also a model (or adapter) in Hugging Face format. Collective: all ranks call it,
    and the main rank writes.
    """
    values = weights.values()
    tensors = {f"weight.{name}": value for name, value in values.items()}
    tensors |= _optimizer_values(weights, optimizer)
    lm = weights.model(lm, values)
    if not world.is_main:
        return
    path = out / f"checkpoint-{progress.step}"
    partial = path.with_name(path.name + ".partial")
    save(lm, partial, adapter_only=is_adapted(lm.model))
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial / f"{STATE}.safetensors")
    (partial / f"{STATE}.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    replace_folder(partial, path)
    for old in sorted(out.glob("checkpoint-*[0-9]"), key=_step)[:-keep]:
        shutil.rmtree(old)


def read(path: Path, weights: Weights, optimizer: torch.optim.Optimizer, run: str) -> Progress:
    """Load weights and optimiser from a checkpoint; every process reads the file.

    Raises:
        BadInput: the checkpoint is of another run (other settings, data or initial weights).
    """
    progress = Progress(**json.loads((path / f"{STATE}.json").read_text(encoding="utf-8")))
    if progress.run != run:
        raise BadInput(
            f"{path}: expected a checkpoint of this run, found one with other settings, data or "
            f"first weights; give another output folder, or delete it"
        )
    order = _indices(weights, optimizer)
    states: dict[int, dict[str, Tensor]] = {}
    # One tensor at a time: with sharded weights a process may have memory for its shards alone.
    with safe_open(path / f"{STATE}.safetensors", framework="pt") as file:
        weights.load(_Named(file))
        for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            if name.startswith("optimizer."):
                _, i, key = name.split(".", 2)
                value = file.get_tensor(name)
                part = weights.part(order[int(i)], value) if value.ndim else value
                states.setdefault(int(i), {})[key] = part
    param_groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": param_groups})
    return progress


class _Named(Mapping[str, Tensor]):
    """Weights in a checkpoint's file by name, each read on access."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getitem__(self, name: str) -> Tensor:
        found: Tensor = self._file.get_tensor(f"weight.{name}")
        return found

    def __iter__(self) -> Iterator[str]:
        return (k[7:] for k in self._file.keys() if k.startswith("weight."))  # noqa: SIM118

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _optimizer_values(weights: Weights, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's whole tensors by name; with shards, none on worker ranks."""
    order = _indices(weights, optimizer)
    found: dict[str, Tensor] = {}
    for i, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            whole = weights.whole(order[i], value) if value.ndim else value
            if whole is not None:
                found[f"optimizer.{i}.{key}"] = whole
    return found


def _indices(weights: Weights, optimizer: torch.optim.Optimizer) -> list[int]:
    """Return the index among the weights of each of the optimiser's parameters."""
    known = {id(master): i for i, master in enumerate(weights.masters)}
    return [known[id(p)] for group in optimizer.param_groups for p in group["params"]]


def _step(path: Path) -> int:
    return int(path.name.rsplit("-", 1)[1])
