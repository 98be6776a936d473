"""What torchrun starts in `test_distributed.py`: many trainings by several processes, one after
the other. Arguments: folder of the model and the data, folder for the runs."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

from alignlab.commands.train import train
from alignlab.errors import BadInput
from alignlab.models.scorer import ResponseScorer
from alignlab.training.ranks import run_on_all_ranks
from tests.training.trainings import FITTING, LONG, ROLLOUTS, TRAININGS, settings

SCORED = ResponseScorer.scored


@contextmanager
def small_memory(scorer, groups, noise=None):
    """A forward pass that only short micro-batches fit into."""
    if sum(group.tokens for group in groups) > FITTING:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    with SCORED(scorer, groups, noise) as found:
        yield found


def main(inputs: Path, out: Path) -> None:
    rank = os.environ["RANK"]
    for name, training in (TRAININGS | ROLLOUTS).items():
        for parallel in training.parallel:
            train(
                training.objective,
                model=str(inputs / "model"),
                data=str(inputs / training.data),
                out=out / f"{name}-{parallel}",
                **settings(training),
                parallel=parallel,
            )
    whole = settings(LONG) | {"parallel": "fsdp"}
    data = str(inputs / LONG.data)
    train(LONG.objective, model=str(inputs / "model"), data=data, out=out / "whole", **whole)
    # Memory runs out in one process alone, and both go on with its budget.
    if rank == "1":
        ResponseScorer.scored = small_memory
    training = TRAININGS["dpo"]
    done = train(
        training.objective,
        model=str(inputs / "model"),
        data=str(inputs / training.data),
        out=out / "small",
        **settings(training),
    )
    # What the leader returns or raises, all do.
    assert Path(done.model.path).is_dir()
    try:
        train("dpo", model=str(inputs / "model"), data="nowhere.jsonl", out=out / "never")
    except BadInput as error:
        (out / f"refused-{rank}").write_text(str(error))
    assert run_on_all_ranks(str, sharded=False, device="cpu", here={}).startswith(
        "DistributedContext("
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
