"""Speed of generation against transformers' `generate` and, where it is at hand, vLLM.

    python benchmarks/generate.py [--model S M] [--dtype bfloat16] [--json]
    python benchmarks/generate.py --against vllm --vllm PYTHON
    python benchmarks/generate.py --model FOLDER --data FILE --prompts 12 --new-tokens 96

32 prompts with lengths like UltraFeedback's, 4 samples each, 128 new tokens (no end token), T 0.7,
top-p 0.9, random Llama models. A folder is a real model, whose prompts come from the data, in its
chat template where it has one; no end token ends its samples either. Each side is a process of its
own; they take turns, in an order that rotates, `--rounds` times after a short warm-up, every time
with new prompts. Memory is the peak above what the loaded model takes (vLLM sets its own aside
before). `--vllm` names a Python interpreter that has vLLM. transformers sorts the whole vocabulary
for a nucleus, which on a CPU is a good part of its time; `--top-p 1` leaves that out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from generate_side import Work
from random_llama import SHAPES, prompt_lengths, write_model
from rich.console import Console
from rich.table import Table
from sides import Side

from alignlab import progress
from alignlab.api.data import load_data
from alignlab.commands._support.prompts_and_responses import prompts_of
from alignlab.errors import BadInput


@dataclass(frozen=True)
class Row:
    """One comparison."""

    data: str
    k: int
    """Samples per prompt."""
    dtype: str
    model: str
    against: str
    ratio: float
    """Median over rounds of our tokens per second over theirs."""
    range: tuple[float, float]
    cpu_ratio: float
    """The median ratio by processor time, which what else runs here disturbs less."""
    peak_ratio: float
    """Median of our peak memory over theirs."""
    ours_per_s: float
    """Median new tokens per second."""
    theirs_per_s: float
    ours_peak_mb: float
    theirs_peak_mb: float
    temperature: float
    top_p: float
    rounds: int
    seed: int
    versions: str
    tokens: int
    """New tokens of one round."""
    lengths: str
    """Lengths of the prompts."""


def compare(size: str, dtype: str, given: argparse.Namespace, folder: Path) -> list[Row]:
    """All rounds of one model and type."""
    texts: list[list[list[int]]] = []
    if size in SHAPES:
        path = folder / size
        if not path.exists():
            write_model(size, path, seed=given.seed)
    else:
        path = Path(size)
        texts = real_prompts(path, given)
    work = Work(
        model=str(path),
        dtype=dtype,
        lengths=[] if texts else prompt_lengths(given.prompts, seed=given.seed),
        vocabulary=0 if texts else SHAPES[size]["vocab_size"],
        texts=texts,
        samples=given.samples,
        new_tokens=given.new_tokens,
        temperature=given.temperature,
        top_p=given.top_p,
        seed=given.seed,
    )
    work_file = folder / "work.json"
    work_file.write_text(json.dumps(asdict(work)))
    pythons = {
        name: given.vllm if name == "vllm" else None for name in ("alignlab", *given.against)
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    sides: list[Side] = []
    try:
        for name, python in pythons.items():
            sides.append(Side("generate_side.py", name, work_file, python=python))
        with progress.task(f"{size} {dtype}", given.rounds + 1) as job:
            for turn in range(given.rounds + 1):
                for place in range(len(sides)):
                    side = sides[(place + turn) % len(sides)]
                    found[side.name].append(side.turn())
                job.advance()
        versions = "; ".join(f"{side.name}: {side.ready['version']}" for side in sides)
    finally:
        for side in sides:
            side.close()
    return [
        _row(work, size, found["alignlab"][1:], found[name][1:], name, versions)
        for name in pythons
        if name != "alignlab"
    ]


def real_prompts(model: Path, given: argparse.Namespace) -> list[list[list[int]]]:
    """Tokens of the prompts of every turn, from the data."""
    from transformers import AutoTokenizer

    if given.data is None:
        raise BadInput(f"--data: expected a file of prompts for {model}, found none")
    tokenizer = AutoTokenizer.from_pretrained(model)
    chosen = list(prompts_of(load_data(given.data).corpus))
    order = np.random.Generator(np.random.Philox(given.seed)).permutation(len(chosen))
    needed = given.prompts * (given.rounds + 1)
    if len(chosen) < needed:
        raise BadInput(f"{given.data}: expected {needed} prompts, found {len(chosen)}")
    tokens = []
    for index in order[:needed]:
        messages = [m.__dict__ for m in chosen[index].messages]
        text = "\n\n".join(m["content"] for m in messages)
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        special = not tokenizer.chat_template
        tokens.append(tokenizer(text, add_special_tokens=special)["input_ids"][-1024:])
    return [tokens[k : k + given.prompts] for k in range(0, needed, given.prompts)]


def _row(
    work: Work,
    size: str,
    ours: list[dict[str, Any]],
    theirs: list[dict[str, Any]],
    against: str,
    versions: str,
) -> Row:
    ours_s, theirs_s = (
        [answer["tokens"] / answer["wall"] for answer in side] for side in (ours, theirs)
    )
    ours_mb, theirs_mb = (
        statistics.median(answer["peak_mb"] for answer in side) for side in (ours, theirs)
    )
    ratios = [a / b for a, b in zip(ours_s, theirs_s, strict=True)]
    return Row(
        data="real prompts" if work.texts else "uf prompts",
        k=work.samples,
        dtype=work.dtype,
        model=Path(size).name,
        against=against,
        ratio=statistics.median(ratios),
        range=(min(ratios), max(ratios)),
        cpu_ratio=statistics.median(b["cpu"] / a["cpu"] for a, b in zip(ours, theirs, strict=True)),
        peak_ratio=ours_mb / max(theirs_mb, 1.0),
        ours_per_s=statistics.median(ours_s),
        theirs_per_s=statistics.median(theirs_s),
        ours_peak_mb=ours_mb,
        theirs_peak_mb=theirs_mb,
        temperature=work.temperature,
        top_p=work.top_p,
        rounds=len(ratios),
        seed=work.seed,
        versions=versions,
        tokens=ours[0]["tokens"],
        lengths=_lengths(work),
    )


def _lengths(work: Work) -> str:
    lengths = [len(p) for turn in work.texts for p in turn] or work.lengths
    middle = statistics.median(lengths)
    return f"prompts of {min(lengths)}-{max(lengths)} tokens, median {middle:g}"


def table(rows: list[Row], given: argparse.Namespace) -> Table:
    made = Table(
        title=f"Generation, {given.prompts} prompts x {given.samples} samples x "
        f"{given.new_tokens} new tokens, T {given.temperature:g}, top-p {given.top_p:g}",
        caption=f"{rows[0].lengths}; {rows[0].rounds} rounds, seed {given.seed}; "
        f"{rows[0].versions}; "
        f"Python {platform.python_version()}; threads {os.environ.get('OMP_NUM_THREADS', 'all')}",
    )
    for name in (
        "model",
        "dtype",
        "against",
        "ours tok/s",
        "theirs tok/s",
        "ratio",
        "range",
        "CPU ratio",
    ):
        made.add_column(name)
    made.add_column("peak MB, ours / theirs")
    for row in rows:
        made.add_row(
            row.model,
            row.dtype,
            row.against,
            f"{row.ours_per_s:,.0f}",
            f"{row.theirs_per_s:,.0f}",
            f"{row.ratio:.2f}x",
            f"{row.range[0]:.2f}-{row.range[1]:.2f}",
            f"{row.cpu_ratio:.2f}x",
            f"{row.ours_peak_mb:.0f} / {row.theirs_peak_mb:.0f} ({row.peak_ratio:.2f})",
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="+", default=["S", "M"], help="S, M, tiny or a folder")
    parser.add_argument("--data", help="data with the prompts of real models")
    parser.add_argument("--dtype", nargs="+", default=["bfloat16"])
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--top-p", type=float, default=0.9)
    parser.add_argument(
        "--against", nargs="+", choices=["transformers", "vllm"], default=["transformers"]
    )
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vLLM")
    parser.add_argument("--quick", action="store_true", help="a check that everything runs")
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    given = parser.parse_args()
    if given.quick:
        given.model, given.prompts, given.new_tokens, given.rounds = ["tiny"], 4, 8, 2
    if "vllm" in given.against and not Path(given.vllm or "").is_file():
        raise BadInput(f"--vllm: expected a Python interpreter, found {given.vllm!r}")
    for size in given.model:
        if size not in SHAPES and not (Path(size) / "config.json").is_file():
            raise BadInput(
                f"--model: expected {', '.join(SHAPES)} or a model's folder, found {size}"
            )
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for size in given.model
            for dtype in given.dtype
            for row in compare(size, dtype, given, Path(folder))
        ]
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console(width=180).print(table(rows, given))


if __name__ == "__main__":
    main()
