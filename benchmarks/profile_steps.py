"""Roofline and profile of our side's work: training steps, rollout steps, sampling, judging.

    python benchmarks/profile_steps.py --folder MODEL_FOLDER --data FORMAT:FILE
        [--what dpo lists grpo sample judge] [--prompts 4] [--rounds 3] [--json]

dpo: a DPO step on pairs. lists: a step on lists of 4 answers. grpo: a GRPO step, 4 answers of 64
tokens to a prompt, a score that costs nothing. sample: 4 answers of 96 tokens to a prompt. judge:
expected scores of 4 answers to a prompt. Batches and settings are those of `train_vs_trl.py`,
`rollout_vs_trl.py`, `generate.py` and `judge_local.py`; the other side does not run.

One process, one thread. After a warm-up, `--rounds` steps are timed in seconds of the processor,
every step on other data, and one more is recorded by torch's profiler. A row's limit is the time
that its operations or its bytes need at least (`roofline.py`), at the rates measured before; the
limit of several parts in turn is the sum of theirs. Shares of a profile are of the time of
torch's operations; "Python" is the recorded step's time outside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from op_profile import CLASSES, SAMPLING, WHOLE, Profile, marked
from real_pairs import write_groups, write_prompts
from rich.console import Console
from rich.table import Table
from roofline import Needed, Rates, judging, rates, sampling, scoring, step_bytes, step_flops
from step_meter import Meter, Part
from transformers import AutoConfig

from alignlab.errors import BadInput
from alignlab.generation import decode
from alignlab.generation.local import LocalEngine
from alignlab.generation.shared import SharedReading
from alignlab.models.dtypes import DTYPES, stored_parameters
from alignlab.models.packed import micro_batches
from alignlab.training.budget import TokenBudget
from alignlab.training.step import StepRunner

PROMPTS = {"dpo": 4, "lists": 2, "grpo": 4, "sample": 12, "judge": 4}
"""Work -> prompts of a step."""


@dataclass(frozen=True)
class Job:
    """Work to measure."""

    what: str
    folder: Path
    data: str
    dtype: str
    prompts: int
    samples: int
    new_tokens: int
    longest: int
    seed: int

    @property
    def element(self) -> int:
        """Return the bytes of a number."""
        return int(DTYPES[self.dtype].itemsize)

    @property
    def config(self) -> Any:
        return AutoConfig.from_pretrained(self.folder).get_text_config()

    def training(self, args: tuple[Any, ...], result: Any) -> list[Needed]:
        """Count an optimiser step (`StepRunner.step`)."""
        runner, _, groups, *_ = args
        passes = len(micro_batches(groups, runner.config.token_budget))
        moved = step_bytes(stored_parameters(self.folder), passes, self.element)
        return [Needed(step_flops(self.config, groups), moved)]

    def scoring(self, args: tuple[Any, ...], result: Any) -> list[Needed]:
        """Count a scoring of groups (`TokenBudget.read`)."""
        budget, _, groups, *_ = args
        passes = len(micro_batches(groups, budget.first))
        return [scoring(self.config, groups, passes, self.element)]

    def sampling(self, args: tuple[Any, ...], result: Any) -> list[Needed]:
        """Count the answers drawn to requests (`LocalEngine.draw`)."""
        drawn = [(len(several[0].prompt), [len(d.tokens) for d in several]) for several in result]
        return list(sampling(self.config, drawn, self.element).values())


def train(job: Job, meter: Meter, scratch: Path) -> None:
    """Do the steps of `train_vs_trl.py`."""
    import train_side

    k, file = (2 if job.what == "dpo" else 4), scratch / "pairs.json"
    write_groups(job.folder, None, job.data, meter.count * job.prompts, k, job.longest, file)
    work = train_side.Work(
        model=str(scratch / "model"), data=str(file), k=k, dtype=job.dtype, vocabulary=0,
        prompts=job.prompts, steps=meter.count, token_budget=4096, trl_batch=1,
        trl_weights="float32", seed=job.seed,
    )  # fmt: skip
    with (
        patch.object(train_side, "Turns", meter),
        meter.part(StepRunner, "step", "training", job.training),
    ):
        train_side.alignlab_side(work)


def rollouts(job: Job, meter: Meter, scratch: Path) -> None:
    """Do the steps of `rollout_vs_trl.py`."""
    import rollout_side

    file = scratch / "prompts.json"
    write_prompts(job.folder, job.data, meter.count * job.prompts, file)
    work = rollout_side.Work(
        model=str(scratch / "model"), objective="grpo", dtype=job.dtype, vocabulary=0,
        prompts=job.prompts, responses=job.samples, max_tokens=job.new_tokens, kl_coef=0.0,
        steps=meter.count, trl_batch=1, trl_weights="float32", seed=job.seed, file=str(file),
    )  # fmt: skip
    with (
        patch.object(rollout_side, "Turns", meter),
        meter.part(LocalEngine, "draw", "sampling", job.sampling),
        meter.part(TokenBudget, "read", "scoring", job.scoring),
        meter.part(StepRunner, "step", "training", job.training),
    ):
        rollout_side.alignlab_side(work)


def sample(job: Job, meter: Meter, scratch: Path) -> None:
    """Draw the answers of `generate.py`."""
    import generate
    import generate_side

    asked = argparse.Namespace(
        data=job.data, seed=job.seed, prompts=job.prompts, rounds=meter.count - 1
    )
    texts = generate.real_prompts(job.folder, asked)
    work = generate_side.Work(
        model=str(job.folder), dtype=job.dtype, lengths=[], vocabulary=0, samples=job.samples,
        new_tokens=job.new_tokens, temperature=0.7, top_p=0.9, seed=job.seed, texts=texts,
    )  # fmt: skip
    draw = generate_side.alignlab_side(work)
    with (
        meter.part(SharedReading, "start", "prompts", lambda args, result: []),
        meter.part(SharedReading, "step", "tokens", lambda args, result: []),
    ):
        for turn, prompts in enumerate(texts):
            meter.begin()
            draw(prompts, job.new_tokens, job.seed + turn)
            lengths = [(len(p), [job.new_tokens] * job.samples) for p in prompts]
            found = sampling(job.config, lengths, job.element)
            meter.end(needed=list(found.values()))
            for name, part in meter.steps[-1].parts.items():
                part.needed.append(found[name])


def judge(job: Job, meter: Meter, scratch: Path) -> None:
    """Judge the answers of `judge_local.py`."""
    import judge_local
    import judge_local_side
    from judge_local_side import JUDGE, judge_prompt, tokenise_choices

    work = judge_local.Work(str(job.folder), job.data, job.dtype, job.prompts, meter.count)
    lm = judge_local_side.load(work.model, dtype=work.dtype)
    engine, choices = LocalEngine(lm), judge_prompt(JUDGE).choices
    for requests in judge_local_side.requests_of(work):
        meter.begin()
        engine.choice_logprobs(requests, choices)
        items = (tokenise_choices(lm, request, choices, context=2**31) for request in requests)
        rows = [i.shared + t[:k] for i in items if i for t in i.tails for k in range(len(t))]
        meter.end(needed=[judging(job.config, rows, job.element)])


RUNS = {"dpo": train, "lists": train, "grpo": rollouts, "sample": sample, "judge": judge}


@dataclass(frozen=True)
class Row:
    """Roofline and profile of a step, or of a part of it."""

    what: str
    part: str
    model: str
    dtype: str
    cpu_s: float
    """Median seconds of the processor."""
    range: tuple[float, float]
    gflop: float
    """Operations that it needs at least, in 10^9; median over steps, as the next two."""
    gbytes: float
    """Bytes that it needs to move at least, in 10^9."""
    limit: float
    """Share of the roofline: the time that operations or bytes need at least, over ours."""
    bound: str
    """Slower of the two at the measured rates: operations or bytes."""
    profile: Mapping[str, float]
    """Class -> share of the time of torch's operations."""
    unknown: Mapping[str, float]
    """Largest operations without a class, with their shares."""
    python: float | None
    """Share of the recorded step outside torch's operations; None for a part."""
    steps: int
    seed: int


def measure(job: Job, rounds: int, known: Rates) -> list[Row]:
    """Run one kind of work; return the row of its step, and of each part where it has several."""
    meter = Meter(rounds)
    with tempfile.TemporaryDirectory() as name, marked(decode, "sample_tokens", SAMPLING):
        (Path(name) / "model").symlink_to(job.folder.resolve())
        RUNS[job.what](job, meter, Path(name))
    timed, recorded = meter.steps[1:-1], meter.steps[-1]
    parts = list(dict.fromkeys(name for step in timed for name in step.parts))
    wholes = [
        Part(step.cpu, step.needed or [n for p in step.parts.values() for n in p.needed])
        for step in timed
    ]
    outside = 1 - sum(meter.profiles[WHOLE].seconds.values()) / recorded.wall
    rows = [_row(job, WHOLE, wholes, known, meter, outside)]
    for name in parts if len(parts) > 1 else []:
        several = [step.parts[name] for step in timed if name in step.parts]
        rows.append(_row(job, name, several, known, meter, None))
    return rows


def _row(
    job: Job, name: str, steps: Sequence[Part], known: Rates, meter: Meter, python: float | None
) -> Row:
    seconds = [step.cpu for step in steps]
    limits = [sum(n.seconds(known) for n in step.needed) / step.cpu for step in steps]
    flops = statistics.median(sum(n.flops for n in step.needed) for step in steps)
    moved = statistics.median(sum(n.bytes for n in step.needed) for step in steps)
    profiled = meter.profiles.get(name, Profile({}, {}))
    return Row(
        what=job.what,
        part=name,
        model=job.folder.name,
        dtype=job.dtype,
        cpu_s=statistics.median(seconds),
        range=(min(seconds), max(seconds)),
        gflop=flops / 1e9,
        gbytes=moved / 1e9,
        limit=statistics.median(limits),
        bound="operations" if flops / known.flops > moved / known.bytes else "bytes",
        profile=profiled.shares(),
        unknown=profiled.largest_unknown(),
        python=python,
        steps=len(steps),
        seed=job.seed,
    )


def table(rows: Sequence[Row], known: Mapping[str, Rates]) -> Table:
    speeds = ", ".join(
        f"{rate.flops / 1e9:.0f} GFLOP/s in {dtype}, {rate.bytes / 1e9:.1f} GB/s of a copy"
        for dtype, rate in known.items()
    )
    made = Table(
        title="Steps of alignlab: roofline and profile",
        caption=f"{rows[0].model}; {rows[0].steps} steps after a warm-up, one more recorded, seed "
        f"{rows[0].seed}; processor seconds; {speeds}; torch {torch.__version__}, Python "
        f"{platform.python_version()}, one thread",
    )
    names = ("what", "part", "CPU s", "range", "GFLOP", "GB moved", "of the limit", "bound by")
    for name in (*names, *CLASSES, "Python"):
        made.add_column(name)
    for row in rows:
        made.add_row(
            row.what,
            row.part,
            f"{row.cpu_s:.2f}",
            f"{row.range[0]:.2f}-{row.range[1]:.2f}",
            f"{row.gflop:.0f}",
            f"{row.gbytes:.1f}",
            f"{row.limit:.0%}",
            row.bound,
            *(f"{row.profile[kind]:.0%}" for kind in CLASSES),
            "" if row.python is None else f"{row.python:.0%}",
        )
    return made


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--folder", type=Path, required=True, help="model with a chat template")
    parser.add_argument(
        "--data", required=True, help="FORMAT:FILE; lists and judge need 4 answers to a prompt"
    )
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3, help="timed steps")
    parser.add_argument("--prompts", type=int, help=f"prompts of a step ({PROMPTS})")
    parser.add_argument("--samples", type=int, default=4, help="answers of grpo and sample")
    parser.add_argument("--new-tokens", type=int, help="tokens of an answer (grpo 64, sample 96)")
    parser.add_argument("--longest", type=int, default=512, help="most tokens of trained texts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    given = parser.parse_args()
    if not (given.folder / "config.json").is_file():
        raise BadInput(f"--folder: expected the folder of a model, found {given.folder}")
    if given.rounds < 1:
        raise BadInput(f"--rounds: expected 1 or more, found {given.rounds}")
    return given


def main() -> None:
    given = parse()
    torch.set_num_threads(1)
    known = rates(given.dtype)
    rows: list[Row] = []
    for what in given.what:
        job = Job(
            what,
            given.folder,
            given.data,
            given.dtype,
            prompts=given.prompts or PROMPTS[what],
            samples=given.samples,
            new_tokens=given.new_tokens or (64 if what == "grpo" else 96),
            longest=given.longest,
            seed=given.seed,
        )
        rows += measure(job, given.rounds, known)
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    Console(width=220).print(table(rows, {given.dtype: known}))
    for row in rows:
        if row.unknown:
            largest = ", ".join(f"{name} {share:.1%}" for name, share in row.unknown.items())
            print(f"other in {row.what}, {row.part}: {largest}")


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        sys.exit(str(error))
