"""Sections of `gpu.py` that need no second process: right, attention, SFT, judging, adapters.

    python benchmarks/gpu_parts.py parts WORK.json

Reads the name of a section a line and answers with its rows, or with the reason why there are none.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from gpu_common import (
    DEVICE,
    Row,
    Sizes,
    apart,
    bar_of,
    compared,
    first_line,
    free_memory,
    half,
    now,
    peak_memory,
    peaks_of,
    relative,
)
from gpu_right import right
from random_llama import write_model
from random_pairs import LENGTHS, as_text, random_groups, write_tokenizer
from sides import say

from alignlab.generation.local import LocalEngine
from alignlab.models import flex, kernels
from alignlab.models.adapters import LoraConfig
from alignlab.models.kernels import Shape, drawn_groups, drawn_inputs, run_layout, seconds
from alignlab.models.load import LanguageModel, load
from alignlab.models.packed import TokenGroup, pack
from alignlab.models.quant import load_quantised
from alignlab.models.tiles import layout
from alignlab.objectives.dpo import DPO
from alignlab.objectives.sft import SFT
from alignlab.training.config import TrainConfig
from alignlab.training.loop import train
from alignlab.types import CompletionRequest, Message, Sampling


def machine(sizes: Sizes) -> list[Row]:
    """Card, driver, versions, and the rate of a large matrix product."""
    known = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("transformers", "trl", "peft", "bitsandbytes", "vllm", "triton", "liger-kernel"):
        with suppress(metadata.PackageNotFoundError):
            known[name] = metadata.version(name)
    if DEVICE.type == "cuda":
        held = torch.cuda.get_device_properties(0)
        known["card"] = f"{held.name}, {held.total_memory / 2**30:.0f} GiB"
        known["cuda"] = str(torch.version.cuda)
        with suppress(OSError, subprocess.SubprocessError):
            asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            ran = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
            known["driver"] = ran.stdout.splitlines()[0].strip()
    size = 8192 if DEVICE.type == "cuda" else 256
    rates = {}
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
        torch.mm(a, b)
        best = min(seconds(lambda a=a, b=b: torch.mm(a, b), DEVICE) for _ in range(10))  # type: ignore[misc]
        rates[str(dtype).removeprefix("torch.")] = 2 * size**3 / best / 1e12
    return [{"what": "machine", **known, "tflops": rates}]


def attention(sizes: Sizes) -> list[Row]:
    """Forward and backward of one layer: tiles, FlexAttention, and SDPA with a dense mask."""
    prompt, _, response, _ = LENGTHS[sizes.lengths]
    batch = pack(drawn_groups(sizes.attention_groups, prompt, response, seed=sizes.seed), DEVICE)
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    length = batch.token_1T.shape[1]
    given = drawn_inputs(length, Shape(*sizes.attention), dtype, DEVICE, seed=sizes.seed)
    tiles, spans = layout(batch), flex.spans(batch)
    ways: dict[str, Callable[[], list[torch.Tensor]]] = {
        "tiles": lambda: run_layout(tiles, given, batch.tokens),
        "SDPA with a dense mask": lambda: _dense(spans, given, batch.tokens),
    }
    rows: list[Row] = []
    if DEVICE.type == "cuda":
        ways["FlexAttention"] = lambda: run_layout(spans, given, batch.tokens)
    else:
        rows.append({"what": "FlexAttention", "skipped": "it has no backward pass on a CPU"})
    values, peaks = {}, {}
    for name, way in list(ways.items()):
        try:
            with peak_memory() as peak:
                values[name] = way()
            peaks[name] = peak()
        except Exception as error:
            rows.append({"what": name, "skipped": first_line(error)})
            del ways[name]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(sizes.rounds):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            times[name].append(seconds(ways[name], DEVICE))
    for name in [n for n in ways if n != "tiles"]:
        row = compared(f"tiles and {name}, {length} tokens, ms", times["tiles"], times[name], 1000)
        row.update(peaks_of(peaks["tiles"], peaks[name]))
        pairs = zip(values["tiles"], values[name], strict=True)
        row["difference"] = max(relative(b.float(), a.float()) for a, b in pairs)
        if DEVICE.type == "cuda":
            counts = [launches(ways[way]) for way in ("tiles", name)]
            row["note"] = f"kernel launches {counts[0]} and {counts[1]}"
        row["bar"] = f"switch at <= {1 / kernels.LEAST_GAIN:.2f}x"
        rows.append(row)
    return rows


def launches(work: Callable[[], object]) -> int | None:
    """Kernels that a piece of work launches on the GPU; None where the profiler cannot see them."""
    try:
        with torch.profiler.profile() as profile:
            work()
            torch.cuda.synchronize()
        return sum(e.count for e in profile.key_averages() if "LaunchKernel" in e.key) or None
    except RuntimeError:
        return None


def _dense(spans: flex.Spans, given: Sequence[torch.Tensor], tokens: int) -> list[torch.Tensor]:
    query, key, value = (t.detach().requires_grad_() for t in given[:3])
    mask = flex.dense_mask(spans)[: query.shape[2], : query.shape[2]]
    # Key heads are repeated: SDPA's fast kernels share none where there is a mask.
    repeated = (t.repeat_interleave(query.shape[1] // t.shape[1], dim=1) for t in (key, value))
    out = torch.nn.functional.scaled_dot_product_attention(
        query, *repeated, attn_mask=mask
    ).transpose(1, 2)[:, :tokens]
    out.backward(given[3][:, :tokens])
    return [out.detach(), query.grad, key.grad, value.grad]  # type: ignore[list-item]


def sft(sizes: Sizes) -> list[Row]:
    """Tokens per second and memory of SFT with checkpointed layers."""
    groups = random_groups(
        sizes.lengths, sizes.prompts * (sizes.rounds + 1), 1, sizes.vocabularies["sft"]
    )
    lm = load(f"{sizes.folder}/sft", dtype="float32", device=DEVICE)
    config = TrainConfig(
        batch_size=sizes.prompts,
        token_budget=sizes.budget,
        dtype=half(),
        gradient_checkpointing=True,
        save_every=0,
    )
    times, peak = _stepped(lm, SFT(), groups, config)
    tokens = sum(g.tokens for g in groups) / (sizes.rounds + 1)
    rate, most = tokens / statistics.median(times), peak / 1024
    return [
        {
            "what": f"SFT, {sizes.models['sft']}, checkpointed, tokens/s",
            "ours": rate,
            "range": [tokens / max(times), tokens / min(times)],
            "n": len(times),
            **peaks_of(peak),
            "bar": ">= 26,005 tokens/s, <= 31.7 GiB",
            "held": rate >= 26_005 and most <= 31.7,
        }
    ]


def adapters(sizes: Sizes) -> list[Row]:
    """Seconds and memory of a DPO step on all weights, on LoRA, and on LoRA over NF4."""
    rounds = min(3, sizes.rounds)
    groups = random_groups(
        sizes.lengths, sizes.prompts * (rounds + 1), 2, sizes.vocabularies["dpo"]
    )
    folder = f"{sizes.folder}/dpo"
    shared = {"batch_size": sizes.prompts, "token_budget": sizes.budget, "save_every": 0}
    full: tuple[list[float], float] | None = None
    rows: list[Row] = []
    for name, lora, quant in (("all", None, "none"), ("LoRA", 16, "none"), ("NF4", 16, "nf4")):
        if quant != "none" and find_spec("bitsandbytes") is None:
            rows.append({"what": name, "skipped": "bitsandbytes is not installed"})
            continue
        config = TrainConfig(
            **shared,  # type: ignore[arg-type]
            dtype=half(),
            lora=None if lora is None else LoraConfig(r=lora),
            quant=quant,  # type: ignore[arg-type]
        )
        try:
            if quant == "none":
                lm = load(folder, dtype="float32" if lora is None else half(), device=DEVICE)
            else:
                lm = load_quantised(folder, "nf4", compute=half(), device=DEVICE)
            found = _stepped(lm, DPO(), groups, config)
        except Exception as error:
            rows.append({"what": name, "skipped": first_line(error)})
            continue
        finally:
            lm = None  # type: ignore[assignment]
            free_memory()
        if full is None:
            full = found
            continue
        row = compared(f"DPO step, {name} and all weights, s", found[0], full[0])
        rows.append({**row, **peaks_of(found[1], full[1])})
    return rows


def judging(sizes: Sizes) -> list[Row]:
    """Expected scores of 4 answers a prompt against padded batches of transformers."""
    vocabulary = sizes.vocabularies["judge"]
    lm = load(f"{sizes.folder}/judge", dtype=half(), device=DEVICE)
    engine = LocalEngine(lm)
    choices = [f" t{n}" for n in range(10, 16)]
    scores = lm.tokenizer(choices, add_special_tokens=False)["input_ids"]
    levels = torch.tensor(scores, device=DEVICE)[:, 0]
    rubric = as_text(range(20, 20 + sizes.rubric))
    times: tuple[list[float], list[float]] = ([], [])
    worst, peaks = 0.0, [0.0, 0.0]
    for turn in range(sizes.rounds + 1):
        groups = random_groups(sizes.lengths, sizes.judged, 4, vocabulary, seed=sizes.seed + turn)
        texts = [
            f"{rubric} {as_text(g.prompt_T)} {as_text(r[:-1])}" for g in groups for r in g.responses
        ]
        asked = [
            CompletionRequest(str(i), (Message("user", t),), Sampling(max_tokens=1), 0)
            for i, t in enumerate(texts)
        ]
        rows = [lm.tokenizer(t)["input_ids"] for t in texts]
        ways = (lambda a: engine.choice_logprobs(a, choices), lambda r: _by_batches(lm, r, levels))
        found: list[torch.Tensor] = []
        for k, (way, work) in enumerate(zip(ways, (asked, rows), strict=True)):
            with peak_memory() as peak:
                began = now()
                found.append(torch.tensor(way(work)))
                took = now() - began
            if turn:
                times[k].append(took)
                peaks[k] = max(peaks[k], peak())
        worst = max(worst, apart(found[0].softmax(-1), found[1].softmax(-1)))
    row = compared(f"judging 4 answers to each of {sizes.judged} prompts, s", *times)
    return [{**row, **peaks_of(*peaks), "difference": worst, **bar_of(row, 4.0)}]


def _by_batches(
    lm: LanguageModel, rows: Sequence[list[int]], levels: torch.Tensor, size: int = 16
) -> list[list[float]]:
    """Log-probabilities of the levels by batches padded on the left, last logits alone."""
    found: list[list[float]] = []
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            width = max(map(len, some))
            ids = torch.tensor([[0] * (width - len(r)) + r for r in some], device=DEVICE)
            fill = torch.tensor([width - len(r) for r in some], device=DEVICE)
            mask = (torch.arange(width, device=DEVICE) >= fill[:, None]).long()
            place = (mask.cumsum(1) - 1).clamp(min=0)
            logits = lm.model(
                ids, attention_mask=mask, position_ids=place, logits_to_keep=1, use_cache=False
            ).logits[:, -1]
            found += logits.float().log_softmax(-1)[:, levels].tolist()
    return found


def _stepped(
    lm: LanguageModel, objective: Any, groups: Sequence[TokenGroup], config: TrainConfig
) -> tuple[list[float], float]:
    """Seconds of every step but the first, and the peak memory in MB."""
    times: list[float] = []

    def on_step(means: Mapping[str, float], step: int, total: int) -> None:
        times.append(means["time/seconds_per_step"])

    with tempfile.TemporaryDirectory() as out, peak_memory() as peak:
        train(lm, objective, groups, config, out, on_step=on_step)
        most = peak()
    return times[1:], most


def write_models(sizes: Sizes) -> list[Row]:
    """Random models of all roles, each shape once."""
    written: dict[str, Path] = {}
    for role, name in sizes.models.items():
        folder = Path(sizes.folder) / role
        if name in written:
            folder.symlink_to(written[name])
            continue
        dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
        write_model(name, folder, seed=sizes.seed, device=DEVICE.type, dtype=dtype)
        write_tokenizer(sizes.vocabularies[role], folder)
        written[name] = folder
    return []


SECTIONS: dict[str, Callable[[Sizes], list[Row]]] = {
    "machine": machine,
    "models": write_models,
    "right": right,
    "attention": attention,
    "sft": sft,
    "judging": judging,
    "adapters": adapters,
}


def main(_: str, work_file: str) -> None:
    sizes = Sizes(**json.loads(Path(work_file).read_text()))
    say({"device": DEVICE.type})
    for _turn in count():
        name = sys.stdin.readline().strip()
        if not name:
            return
        try:
            say({"rows": SECTIONS[name](sizes)})
        except Exception as error:
            say({"skipped": first_line(error)})
        free_memory()


if __name__ == "__main__":
    main(*sys.argv[1:])
