"""Speed and memory of a rollout training step against TRL's GRPO and RLOO trainers.

    python benchmarks/rollout_vs_trl.py [--model S] [--objective grpo rloo] [--dtype bfloat16]
    python benchmarks/rollout_vs_trl.py --folder MODEL_FOLDER --data FILE --prompts 4

A step: 16 prompts with the lengths of chat, 4 responses of up to 64 tokens to each drawn from the
live model, a score that costs nothing (the share of even tokens), and one update. Random Llama
models; or real ones from folders, asked the prompts of a file (those of up to 256 tokens) in their
own chat template. Each side is a process of its own; they take turns step by step, the first step
warms up.
The samples are the sides' own, so losses are not compared, only that both drew as many tokens, and
that their scores are alike. `--kl-coef 0` leaves TRL without a reference model; ours scores it all
the same, for the KL that it records. Memory is the peak above the loaded model.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from random_llama import SHAPES, write_model
from random_pairs import write_tokenizer
from real_pairs import write_prompts
from rich.console import Console
from rich.table import Table
from rollout_side import Work
from sides import alternated

from alignlab.errors import BadInput

SHORT = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True)
class Row:
    """One comparison."""

    objective: str
    data: str
    k: int
    """Responses to a prompt."""
    dtype: str
    model: str
    kl_coef: float
    ratio: float
    """Median over steps of their seconds over ours."""
    range: tuple[float, float]
    peak_ratio: float
    """Our peak memory above the loaded model over theirs."""
    reward_diff: float
    """Difference of the sides' mean scores over all timed steps."""
    length_ratio: float
    """Our tokens per response over theirs."""
    ours_s: float
    """Median seconds of a step."""
    theirs_s: float
    ours_peak_mb: float
    theirs_peak_mb: float
    sampling: float
    """Share of our step that sampling takes (by the clock)."""
    clock: str
    steps: int
    prompts: int
    max_tokens: int
    trl_batch: int
    trl_weights: str
    seed: int


def compare(work: Work, size: str, clock: str, folder: Path) -> Row:
    """Take turns over all steps."""
    work_file = folder / "work.json"
    work_file.write_text(json.dumps(asdict(work)))
    title = f"{size} {work.objective} {work.dtype}"
    found = alternated("rollout_side.py", ("alignlab", "trl"), work_file, work.steps, title=title)
    return _row(work, size, clock, found)


def _row(work: Work, size: str, clock: str, found: dict[str, list[dict[str, Any]]]) -> Row:
    ours, theirs = found["alignlab"][1:], found["trl"][1:]
    our_s, their_s = ([turn[clock] for turn in side] for side in (ours, theirs))
    ratios = [b / a for a, b in zip(our_s, their_s, strict=True)]

    def mean(side: Sequence[dict[str, Any]], what: str) -> float:
        return statistics.fmean(turn[what] for turn in side)

    return Row(
        objective=work.objective,
        data=Path(work.file).stem if work.file else "uf prompts",
        k=work.responses,
        dtype=work.dtype,
        model=size,
        kl_coef=work.kl_coef,
        ratio=statistics.median(ratios),
        range=(min(ratios), max(ratios)),
        peak_ratio=ours[-1]["peak_mb"] / theirs[-1]["peak_mb"],
        reward_diff=abs(mean(ours, "reward") - mean(theirs, "reward")),
        length_ratio=mean(ours, "length") / mean(theirs, "length"),
        ours_s=statistics.median(our_s),
        theirs_s=statistics.median(their_s),
        ours_peak_mb=ours[-1]["peak_mb"],
        theirs_peak_mb=theirs[-1]["peak_mb"],
        sampling=statistics.median(turn["sampling"] / turn["wall"] for turn in ours),
        clock=clock,
        steps=len(ratios),
        prompts=work.prompts,
        max_tokens=work.max_tokens,
        trl_batch=work.trl_batch,
        trl_weights=work.trl_weights,
        seed=work.seed,
    )


def table(rows: Sequence[Row]) -> Table:
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("trl", "torch", "transformers"))
    made = Table(
        title="Rollout training steps, alignlab against TRL",
        caption=f"{rows[0].steps} alternated steps after a warm-up, seed {rows[0].seed}; "
        f"{rows[0].clock} seconds; {versions}; Python {platform.python_version()}; threads "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')}",
    )
    for name in (
        "objective", "model", "dtype", "prompts x k x tokens", "KL", "TRL batch", "ours s",
        "theirs s", "ratio", "range", "peak MB", "peak ratio", "score diff", "sampling",
    ):  # fmt: skip
        made.add_column(name)
    for row in rows:
        made.add_row(
            row.objective,
            row.model,
            row.dtype,
            f"{row.prompts} x {row.k} x {row.max_tokens}",
            f"{row.kl_coef:g}",
            f"{row.trl_batch}" + (" pure" if row.trl_weights == "bfloat16" else ""),
            f"{row.ours_s:.2f}",
            f"{row.theirs_s:.2f}",
            f"{row.ratio:.2f}x",
            f"{row.range[0]:.2f}-{row.range[1]:.2f}",
            f"{row.ours_peak_mb:.0f} / {row.theirs_peak_mb:.0f}",
            f"{row.peak_ratio:.2f}",
            f"{row.reward_diff:.3f}",
            f"{row.sampling:.0%}",
        )
    return made


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", choices=sorted(SHAPES), default=["S"])
    parser.add_argument(
        "--folder", nargs="+", type=Path, default=[], help="real models, instead of --model"
    )
    parser.add_argument("--data", default="", help="prompts for --folder: FORMAT:FILE or a file")
    parser.add_argument("--objective", nargs="+", choices=["grpo", "rloo"], default=["grpo"])
    parser.add_argument(
        "--dtype", nargs="+", choices=[*SHORT, *SHORT.values()], default=["bfloat16"]
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed steps")
    parser.add_argument("--prompts", type=int, default=16, help="prompts of a step")
    parser.add_argument("-k", type=int, default=4, help="responses to a prompt")
    parser.add_argument("--max-tokens", type=int, default=64, help="tokens of a response")
    parser.add_argument("--kl-coef", nargs="+", type=float, default=[0.0])
    parser.add_argument(
        "--trl-batch", nargs="+", type=int, default=[16], help="TRL's responses of a pass"
    )
    parser.add_argument("--trl-weights", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: seconds on the processor, for one thread on a machine with other work",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a check that everything runs")
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    given = parser.parse_args()
    if given.quick:
        given.model, given.rounds, given.prompts, given.max_tokens = ["tiny"], 2, 4, 8
        given.dtype = ["float32"]
    if bool(given.folder) != bool(given.data):
        raise BadInput("--folder and --data: expected both, or neither, found one of them")
    responses = given.prompts * given.k
    if wrong := next((n for n in given.trl_batch if n < 1 or responses % n), None):
        raise BadInput(f"--trl-batch: expected a divisor of {responses} responses, found {wrong}")
    return given


def _rows(given: argparse.Namespace, folder: Path, name: str, vocabulary: int) -> list[Row]:
    """Compare the sides in every setting, on the model in a folder."""
    rows: list[Row] = []
    file = folder / "prompts.json"
    for objective, dtype, kl_coef, trl_batch in (
        (o, t, c, b) for o in given.objective for t in given.dtype
        for c in given.kl_coef for b in given.trl_batch
    ):  # fmt: skip
        work = Work(
            model=str(folder / "model"),
            objective=objective,
            dtype=SHORT.get(dtype, dtype),
            vocabulary=vocabulary,
            prompts=given.prompts,
            responses=given.k,
            max_tokens=given.max_tokens,
            kl_coef=kl_coef,
            steps=given.rounds + 1,
            trl_batch=trl_batch,
            trl_weights=given.trl_weights,
            seed=given.seed,
            file=str(file) if file.exists() else "",
        )
        rows.append(compare(work, name, given.clock, folder))
    return rows


def main() -> None:
    given = parse()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["HF_HOME"] = name
        for real in given.folder:
            folder = Path(name) / real.name
            folder.mkdir()
            (folder / "model").symlink_to(real.resolve())
            count = given.prompts * (given.rounds + 1)
            write_prompts(real, given.data, count, folder / "prompts.json")
            rows += _rows(given, folder, real.name, 0)
        for size in [] if given.folder else given.model:
            folder = Path(name) / size
            write_model(size, folder / "model", seed=given.seed)
            write_tokenizer(SHAPES[size]["vocab_size"], folder / "model")
            rows += _rows(given, folder, size, SHAPES[size]["vocab_size"])
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console(width=180).print(table(rows))


if __name__ == "__main__":
    main()
