"""Sections of `gpu.py` whose two sides are processes that take turns."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from random_llama import prompt_lengths
from sides import Side

from alignlab.errors import RunFailed

FULL = {"right": "M", "dpo": "Llama-3.2-1B", "sft": "Qwen3-0.6B", "grpo": "Qwen2.5-0.5B",
        "judge": "Qwen2.5-0.5B", "sample": "Qwen2.5-0.5B"}  # fmt: skip
Row = dict[str, Any]


class Skipped(Exception):
    """Reason why a section has no rows."""


@dataclass
class Bench:
    """The run of the script: its sizes, its clock, and the process of the small sections."""

    toy: bool
    seed: int
    folder: Path
    ends: float
    """Time (monotonic) at which the budget is spent."""
    rounds: int
    vllm: str | None
    device: str = ""
    rates: dict[str, float] = field(default_factory=dict)
    """TFLOP/s of a large matrix product, by type."""
    parts: Side | None = None

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.ends - time.monotonic()

    @property
    def dtype(self) -> str:
        return "float32" if self.toy else "bfloat16"

    @property
    def lengths(self) -> str:
        return "tiny" if self.toy else "uf"

    def model(self, role: str) -> str:
        return str(self.folder / role)

    def name(self, role: str) -> str:
        return "tiny" if self.toy else FULL[role]

    def vocabulary(self, role: str) -> int:
        return 512 if self.toy else VOCABULARIES[FULL[role]]

    def ask(self, section: str) -> dict[str, Any]:
        """Answer of the process of the small sections, which is started again where it ended."""
        if self.parts is None:
            file = self.folder / "sizes.json"
            file.write_text(json.dumps(self.sizes()))
            self.parts = Side("gpu_parts.py", "parts", file, limit_s=max(self.left, 1))
            self.device = self.parts.ready["device"]
        try:
            return self.parts.turn(section, limit_s=max(self.left, 1))
        except RunFailed:
            self.parts.close()
            self.parts = None
            raise

    def sizes(self) -> dict[str, Any]:
        """Sizes of the small sections (`gpu_common.Sizes`)."""
        toy = self.toy
        return {
            "models": {role: self.name(role) for role in FULL},
            "vocabularies": {role: self.vocabulary(role) for role in FULL},
            "folder": str(self.folder),
            "lengths": self.lengths,
            "attention": [4, 2, 16] if toy else [32, 8, 64],
            "attention_groups": 4 if toy else 24,
            "prompts": 4 if toy else 32,
            "budget": 512 if toy else 8192,
            "judged": 2 if toy else 64,
            "rubric": 16 if toy else 300,
            "rounds": self.rounds,
            "seed": self.seed,
        }


VOCABULARIES = {"M": 32000, "Llama-3.2-1B": 128256, "Qwen3-0.6B": 151936, "Qwen2.5-0.5B": 151936}


def turns(
    bench: Bench, script: str, names: Sequence[str], work: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """What the sides say of their timed turns, as many as the budget has room for."""
    file = bench.folder / f"{names[0]}-{names[1]}.json"
    file.write_text(json.dumps(work))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    sides: list[Side] = []
    try:
        with ThreadPoolExecutor(len(names)) as pool:  # most of a start is importing
            starts = [
                pool.submit(
                    Side, script, name, file,
                    python=bench.vllm if name == "vllm" else None, limit_s=max(bench.left, 1),
                )
                for name in names
            ]  # fmt: skip
        sides.extend(start.result() for start in starts if start.exception() is None)
        for start in starts:
            start.result()  # raises what ended it
        took = 0.0
        for turn in range(bench.rounds + 1):
            if turn > 1 and bench.left < took + 2:
                break
            began = time.monotonic()
            for side in sides if turn % 2 else sides[::-1]:
                found[side.name].append(side.turn(limit_s=max(bench.left, 1)))
            took = time.monotonic() - began
    finally:
        for side in sides:
            side.close()
    if len(found[names[0]]) < 2:
        raise Skipped("the budget had no room for a timed turn")
    return found


def row_of(what: str, ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> Row:
    """A row of two sides' seconds per turn; the first turn warms up."""
    pairs = [(a["wall"], b["wall"]) for a, b in zip(ours[1:], theirs[1:], strict=True)]
    ratios = [b / a for a, b in pairs]
    return {
        "what": what,
        "ours": statistics.median(a for a, _ in pairs),
        "theirs": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
        "n": len(ratios),
        "peak_mb": [max(t["peak_mb"] for t in side) for side in (ours, theirs)],
    }


def dpo(
    ours: str,
    theirs: str,
    k: int,
    least: float | None,
    *,
    budget: int = 16384,
    batch: int = 8,
    liger: bool = False,
) -> Callable[[Bench], list[Row]]:
    """A section of DPO steps (k = 2), or of the listwise loss next to TRL's on pairs (k = 4).

    Args:
        ours, theirs: sides of `train_side.py`.
        least: ratio to reach; None sets none.
        budget: our tokens of a pass.
        batch: TRL's pairs of a pass.
        liger: let TRL use Liger's loss.
    """

    def section(bench: Bench) -> list[Row]:
        if theirs == "trl":
            _needs("trl")
        if liger:
            _needs("liger_kernel")
        if ours == "flex" and bench.device == "cpu":
            raise Skipped("FlexAttention has no backward pass on a CPU")
        prompts = 4 if bench.toy else 64
        work = {
            "model": bench.model("dpo"),
            "data": bench.lengths,
            "k": k,
            "dtype": bench.dtype,
            "vocabulary": bench.vocabulary("dpo"),
            "prompts": prompts,
            "steps": bench.rounds + 1,
            "token_budget": 512 if bench.toy else budget,
            "trl_batch": 4 if bench.toy else batch,
            "trl_weights": "float32",
            "seed": bench.seed,
            "liger": liger,
        }
        found = turns(bench, "train_side.py", (ours, theirs), work)
        a, b = found[ours], found[theirs]
        with_liger = " with Liger" if liger else ""
        row = row_of(
            f"{bench.name('dpo')}, k={k}, {prompts} prompts, {ours} and {theirs}{with_liger}, s",
            a, b,
        )  # fmt: skip
        if k == 2 or theirs != "trl":  # of all steps: the first loss is log 2 on any path
            row["difference"] = max(abs(x["loss"] - y["loss"]) for x, y in zip(a, b, strict=True))
        rate = bench.rates.get(bench.dtype)
        if rate:
            used = statistics.median(t["flops"] / t["wall"] for t in a[1:]) / 1e12
            row["note"] = f"{used:.3g} TFLOP/s, {used / rate:.0%} of a large product's"
        if least is not None:
            row["bar"], row["held"] = f">= {least:g}x", row["ratio"] >= least
        return [row]

    return section


def grpo(bench: Bench, *, continuous: bool = False) -> list[Row]:
    """GRPO steps against TRL with transformers' generate."""
    _needs("trl")
    prompts, responses, tokens = (4, 2, 8) if bench.toy else (32, 8, 256)
    work = {
        "model": bench.model("grpo"),
        "objective": "grpo",
        "dtype": bench.dtype,
        "vocabulary": bench.vocabulary("grpo"),
        "prompts": prompts,
        "responses": responses,
        "max_tokens": tokens,
        "kl_coef": 0.0,
        "steps": bench.rounds + 1,
        "trl_batch": 4 if bench.toy else 32,
        "trl_weights": "float32",
        "seed": bench.seed,
        "continuous": continuous,
    }
    found = turns(bench, "rollout_side.py", ("alignlab", "trl"), work)
    ours = found["alignlab"]
    against = "TRL with continuous batching" if continuous else "TRL"
    row = row_of(
        f"GRPO, {bench.name('grpo')}, {prompts} x {responses} x {tokens}, {against}, s",
        ours, found["trl"],
    )  # fmt: skip
    sampling = statistics.median(t["sampling"] / t["wall"] for t in ours[1:])
    row["note"] = f"sampling is {sampling:.0%} of our step"
    return [{**row, "bar": ">= 3x", "held": row["ratio"] >= 3}]


def sampling(against: str) -> Callable[[Bench], list[Row]]:
    """A section of sampling K answers to prompts, against transformers' generate or vLLM."""

    def section(bench: Bench) -> list[Row]:
        if against == "vllm" and bench.vllm is None:
            raise Skipped("vLLM is not installed (--vllm names an interpreter that has it)")
        prompts, samples, tokens = (4, 2, 8) if bench.toy else (32, 8, 128)
        work = {
            "model": bench.model("sample"),
            "dtype": bench.dtype,
            "lengths": prompt_lengths(prompts, seed=bench.seed),
            "vocabulary": bench.vocabulary("sample"),
            "samples": samples,
            "new_tokens": tokens,
            "temperature": 0.7,
            "top_p": 0.9,
            "seed": bench.seed,
            "texts": [],
        }
        found = turns(bench, "generate_side.py", ("alignlab", against), work)
        row = row_of(
            f"{bench.name('sample')}, {prompts} x {samples} x {tokens}, {against}, s",
            found["alignlab"], found[against],
        )  # fmt: skip
        rates = [t["tokens"] / t["wall"] for t in found["alignlab"][1:]]
        row["note"] = f"{statistics.median(rates):,.0f} tokens/s of ours"
        least = 5.0 if against == "transformers" else 1.5
        return [{**row, "bar": f">= {least:g}x", "held": row["ratio"] >= least}]

    return section


def _needs(package: str) -> None:
    if find_spec(package) is None:
        raise Skipped(f"{package} is not installed")
