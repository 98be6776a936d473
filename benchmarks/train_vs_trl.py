"""Training speed and memory against TRL's DPO trainer.

    python benchmarks/train_vs_trl.py [--model S M] [--data uf sum] [--dtype bfloat16] [-k 2 4]
    python benchmarks/train_vs_trl.py --folder MODEL_FOLDER --pairs FILE --dtype bf16 -k 2

DPO on pairs, and the listwise loss over four responses against TRL's DPO on the three pairs of the
best with each other. Random Llama models, random tokens, lengths of chat ("uf") and of
summarisation ("sum"); or real models from folders, on a file of preferences in their own chat
template. Both sides train on the same batches from the same weights, each in a process
of its own, and take turns step by step; the first step warms up. TRL has its reference's
log-probabilities computed beforehand, as we do, gradient checkpointing off, and as many pairs in a
pass (`--trl-batch`) as it is told; its `padding_free` does nothing. In bfloat16 both keep float32
weights: TRL's work under autocast. Memory is the peak above the loaded model.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from random_llama import SHAPES, write_model
from random_pairs import write_tokenizer
from real_pairs import save_groups, write_groups
from rich.console import Console
from rich.table import Table
from roofline import Needed, rates, step_bytes, step_flops
from sides import Side, alternated
from train_side import Work
from transformers import AutoConfig

from alignlab import progress
from alignlab.errors import BadInput
from alignlab.models.dtypes import DTYPES, stored_parameters
from alignlab.models.packed import TokenGroup, micro_batches

PROMPTS = {"tiny": 4, "S": 16, "M": 4}
"""Prompts of one optimiser step; M's steps would take minutes with more."""
SHORT = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True)
class Row:
    """One comparison."""

    data: str
    k: int
    dtype: str
    model: str
    ratio: float
    """Median over steps of their seconds over ours."""
    range: tuple[float, float]
    peak_ratio: float
    """Our peak memory above the loaded model over theirs."""
    loss_diff: float | None
    """Difference of the first step's loss; None where the two losses are not the same."""
    logps_diff: float
    """Difference of the first step's mean log-probability of the chosen response, in nats."""
    grad_norm_diff: float | None
    """Difference of the first step's gradient norm, over theirs."""
    ours_per_s: float
    """Median groups (prompts) per second."""
    theirs_per_s: float
    ours_peak_mb: float
    theirs_peak_mb: float
    mfu: float
    """The step's needed operations over our time, over the measured rate of matrix products."""
    gflop: float
    """Operations that a step needs at least, in 10^9."""
    gbytes: float
    """Bytes that a step moves at least, in 10^9: weights, gradients and optimiser states."""
    limit: float
    """Share of the roofline: the time that operations or bytes need at least, over ours."""
    gflops: float
    """That rate, on the processor with one thread."""
    clock: str
    """Whose seconds: "wall", or "cpu" for those on the processor."""
    steps: int
    prompts: int
    trl_batch: int
    trl_weights: str
    tokens: int
    """Stream tokens of all timed steps: prompts once."""
    prompt_median: float
    response_median: float
    seed: int


SIDES = ("alignlab", "trl")


def compare(work: Work, size: str, clock: str, folder: Path) -> Row:
    """Take turns over all steps."""
    work_file = folder / "work.json"
    work_file.write_text(json.dumps(asdict(work)))
    title = f"{size} {work.data} K={work.k} {work.dtype}"
    found = alternated("train_side.py", SIDES, work_file, work.steps, title=title)
    return _row(work, size, clock, found, work.batches()[1:])


def compare_apart(work: Work, size: str, clock: str, folder: Path) -> Row:
    """Take turns by processes of one warm-up and one timed step, one process at a time."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    first, *later = work.batches()
    batches = []
    with progress.task(f"{size} K={work.k} {work.dtype}", len(later)) as job:
        for number, batch in enumerate(later):
            data = folder / f"pairs-{number}.json"
            save_groups([*first, *batch], data)
            one = replace(work, data=str(data), steps=2)
            batches.append(one.batches()[1])
            work_file = folder / f"work-{number}.json"
            work_file.write_text(json.dumps(asdict(one)))
            for name in SIDES if number % 2 else SIDES[::-1]:
                with closing(Side("train_side.py", name, work_file)) as side:
                    turns = [side.turn(), side.turn()]
                found[name] += turns[1:] if found[name] else turns
            job.advance()
    return _row(work, size, clock, found, batches)


def _row(
    work: Work,
    size: str,
    clock: str,
    found: dict[str, list[dict[str, Any]]],
    batches: Sequence[Sequence[TokenGroup]],
) -> Row:
    ours, theirs = found["alignlab"], found["trl"]
    our_s, their_s = ([turn[clock] for turn in side[1:]] for side in (ours, theirs))
    ratios = [b / a for a, b in zip(our_s, their_s, strict=True)]
    config = AutoConfig.from_pretrained(work.model).get_text_config()
    measured = rates(work.dtype)
    gflops = measured.flops / 1e9
    used = [
        step_flops(config, batch) / seconds / 1e9
        for batch, seconds in zip(batches, our_s, strict=True)
    ]

    parameters = stored_parameters(Path(work.model))
    flops = statistics.median(step_flops(config, batch) for batch in batches)
    passes = statistics.median(len(micro_batches(batch, work.token_budget)) for batch in batches)
    moved = step_bytes(parameters, int(passes), DTYPES[work.dtype].itemsize)
    limit = Needed(flops, moved).seconds(measured)

    def differs(what: str) -> float:
        return abs(ours[0][what] - theirs[0][what])

    same_loss = work.k == 2
    groups = [group for batch in batches for group in batch]
    return Row(
        data=Path(work.data).stem,
        k=work.k,
        dtype=work.dtype,
        model=size,
        ratio=statistics.median(ratios),
        range=(min(ratios), max(ratios)),
        peak_ratio=ours[-1]["peak_mb"] / theirs[-1]["peak_mb"],
        loss_diff=differs("loss") if same_loss else None,
        logps_diff=differs("logps/chosen"),
        grad_norm_diff=differs("grad_norm") / theirs[0]["grad_norm"] if same_loss else None,
        ours_per_s=work.prompts / statistics.median(our_s),
        theirs_per_s=work.prompts / statistics.median(their_s),
        ours_peak_mb=ours[-1]["peak_mb"],
        theirs_peak_mb=theirs[-1]["peak_mb"],
        mfu=statistics.median(used) / gflops,
        gflop=flops / 1e9,
        gbytes=moved / 1e9,
        limit=limit / statistics.median(our_s),
        gflops=gflops,
        clock=clock,
        steps=len(ratios),
        prompts=work.prompts,
        trl_batch=work.trl_batch,
        trl_weights=work.trl_weights,
        tokens=sum(group.tokens for group in groups),
        prompt_median=statistics.median(len(g.prompt_T) for g in groups),
        response_median=statistics.median(_response_lengths(groups)),
        seed=work.seed,
    )


def _response_lengths(groups: Sequence[TokenGroup]) -> list[int]:
    return [len(response) for group in groups for response in group.responses]


def table(rows: Sequence[Row]) -> Table:
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("trl", "torch", "transformers"))
    kernels = os.environ.get("MKL_ENABLE_INSTRUCTIONS", "default")
    made = Table(
        title="Training steps, alignlab against TRL",
        caption=f"{rows[0].steps} alternated steps after a warm-up, seed {rows[0].seed}; "
        f"{rows[0].clock} seconds; {versions}; Python {platform.python_version()}; threads "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')}; MKL instructions {kernels}; "
        "MFU against "
        + ", ".join(sorted({f"{row.gflops:.0f} GFLOP/s in {row.dtype}" for row in rows})),
    )
    for name in (
        "model", "data", "k", "dtype", "prompts x steps", "lengths", "TRL batch", "ours /s",
        "theirs /s", "ratio", "range", "peak MB", "peak ratio", "loss diff", "MFU", "GFLOP",
        "GB moved", "of the limit",
    ):  # fmt: skip
        made.add_column(name)
    for row in rows:
        made.add_row(
            row.model,
            row.data,
            str(row.k),
            row.dtype,
            f"{row.prompts} x {row.steps}",
            f"{row.prompt_median:.0f} + {row.response_median:.0f}",
            f"{row.trl_batch}" + (" pure" if row.trl_weights == "bfloat16" else ""),
            f"{row.ours_per_s:.2f}",
            f"{row.theirs_per_s:.2f}",
            f"{row.ratio:.2f}x",
            f"{row.range[0]:.2f}-{row.range[1]:.2f}",
            f"{row.ours_peak_mb:.0f} / {row.theirs_peak_mb:.0f}",
            f"{row.peak_ratio:.2f}",
            "" if row.loss_diff is None else f"{row.loss_diff:.1e}",
            f"{row.mfu:.0%}",
            f"{row.gflop:.0f}",
            f"{row.gbytes:.1f}",
            f"{row.limit:.0%}",
        )
    return made


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", choices=sorted(SHAPES), default=["S", "M"])
    parser.add_argument(
        "--folder", nargs="+", type=Path, default=[], help="real models, instead of --model"
    )
    parser.add_argument(
        "--pairs", default="", help="preferences for --folder: FORMAT:FILE or a file"
    )
    parser.add_argument(
        "--chat-template", choices=["plain"], help="template of folders that have none"
    )
    parser.add_argument(
        "--longest", type=int, default=1024, help="most tokens of a prompt or response of --pairs"
    )
    parser.add_argument(
        "--apart",
        action="store_true",
        help="--folder: one process at a time, anew for each step, where two exceed the memory",
    )
    parser.add_argument("--data", nargs="+", choices=["uf", "sum", "tiny"], default=["uf", "sum"])
    parser.add_argument(
        "--dtype", nargs="+", choices=[*SHORT, *SHORT.values()], default=["bfloat16", "float32"]
    )
    parser.add_argument("-k", nargs="+", type=int, default=[2, 4], help="responses of a prompt")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps")
    parser.add_argument("--prompts", type=int, help="prompts of a step (16; 4 for model M)")
    parser.add_argument("--token-budget", type=int, default=4096, help="our tokens of a pass")
    parser.add_argument("--trl-batch", type=int, default=4, help="TRL's pairs of a pass")
    parser.add_argument(
        "--trl-weights",
        choices=["float32", "bfloat16"],
        default="float32",
        help="bfloat16: TRL trains bfloat16 weights, which round small updates away",
    )
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
        given.model, given.data, given.k, given.rounds = ["tiny"], ["tiny"], [2, 4], 2
        given.dtype = ["float32"]
    if bool(given.folder) != bool(given.pairs):
        raise BadInput("--folder and --pairs: expected both, or neither, found one of them")
    if given.apart and not given.folder:
        raise BadInput("--apart: expected --folder with it, found none")
    if min(given.k) < 2:
        raise BadInput(f"-k: expected 2 or more, found {min(given.k)}")
    return given


def _real_row(given: argparse.Namespace, model: Path, dtype: str, k: int, scratch: Path) -> Row:
    """Compare the two sides on a real model and real texts."""
    folder = scratch / f"{model.name}-{dtype}-{k}"
    folder.mkdir()
    (folder / "model").symlink_to(model.resolve())
    steps, prompts = given.rounds + 1, given.prompts or 8
    groups = folder / "pairs.json"
    template = given.chat_template
    write_groups(model, template, given.pairs, steps * prompts, k, given.longest, groups)
    work = Work(
        model=str(folder / "model"),
        data=str(groups),
        k=k,
        dtype=dtype,
        vocabulary=0,
        prompts=prompts,
        steps=steps,
        token_budget=given.token_budget,
        trl_batch=given.trl_batch,
        trl_weights=given.trl_weights,
        seed=given.seed,
        template=template,
    )
    return (compare_apart if given.apart else compare)(work, model.name, given.clock, folder)


def main() -> None:
    given = parse()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["HF_HOME"] = name
        for model in given.folder:
            for dtype, k in ((t, k) for t in given.dtype for k in given.k):
                rows.append(_real_row(given, model, SHORT.get(dtype, dtype), k, Path(name)))
        for size in [] if given.folder else given.model:
            folder = Path(name) / size
            write_model(size, folder / "model", seed=given.seed)
            write_tokenizer(SHAPES[size]["vocab_size"], folder / "model")
            for data, dtype, k in ((d, t, k) for d in given.data for t in given.dtype
                                   for k in given.k):  # fmt: skip
                work = Work(
                    model=str(folder / "model"),
                    data=data,
                    k=k,
                    dtype=SHORT.get(dtype, dtype),
                    vocabulary=SHAPES[size]["vocab_size"],
                    prompts=given.prompts or PROMPTS[size],
                    steps=given.rounds + 1,
                    token_budget=given.token_budget,
                    trl_batch=given.trl_batch,
                    trl_weights=given.trl_weights,
                    seed=given.seed,
                )
                rows.append(compare(work, size, given.clock, folder))
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console(width=220).print(table(rows))


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        sys.exit(str(error))
