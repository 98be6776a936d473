"""What torchrun starts in `test_distributed.py`: many trainings by several processes, one after
the other. Arguments: folder of the model and the data, folder for the runs."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

from alignlab.commands.train import train
from alignlab.errors import BadInput
from alignlab.generation.local import LocalEngine
from alignlab.models.load import load
from alignlab.models.scorer import ResponseScorer
from alignlab.training.distributed import DistributedContext
from alignlab.training.ranks import main_process_only, run_on_all_ranks
from tests.training.trainings import FITTING, LONGS, ROLLOUTS, TRAININGS, requests, settings

SCORED = ResponseScorer.scored


@contextmanager
def small_memory(scorer, groups, noise=None):
    """A forward pass that only short micro-batches fit into."""
    if sum(group.tokens for group in groups) > FITTING:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    with SCORED(scorer, groups, noise) as found:
        yield found


@main_process_only
def draw(folder: str, count: int):
    return run_on_all_ranks(drawn, folder, count, sharded=True, device="cpu", here={})


def drawn(world: DistributedContext, folder: str, count: int):
    """Answers sampled from shards, in order, with the share of the weights that each rank holds."""
    from alignlab.training.sharding import ShardedWeights

    lm = load(folder, dtype="float32", device="cpu", deferred=True)
    every = sum(p.numel() for p in lm.model.parameters())
    weights = ShardedWeights(lm.model, "float32", world, lm.weights)
    assert weights._copy is None or all(p.is_meta for p in weights._copy.parameters())
    own = requests(count)[world.rank :: world.size]
    with weights.sampling(lm) as sharded:
        tokens = [d.tokens for several in LocalEngine(sharded).draw(own) for d in several]
    shares = world.all_gather([tokens, sum(m.numel() for m in weights.masters) / every])
    return {
        "tokens": [shares[i % world.size][0][i // world.size] for i in range(count)],
        "held": [held for _, held in shares],
    }


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
    for name, long in LONGS.items():
        whole = settings(long) | {"parallel": "fsdp"}
        data, to = str(inputs / long.data), out / f"whole-{name}"
        train(long.objective, model=str(inputs / "model"), data=data, out=to, **whole)
    for count in (1, 5):  # of one answer, process 1 has none
        found = draw(str(inputs / "model"), count)
        if rank == "0":
            (out / f"drawn-{count}.json").write_text(json.dumps(found))
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
