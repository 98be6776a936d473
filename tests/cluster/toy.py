"""Tasks without models, for tests of what happens around them; nodes import this module."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignlab import engine_pool, progress
from alignlab.at_once import in_order
from alignlab.cluster.tasks import Task
from alignlab.engine_pool import EnginePool, PooledModel
from alignlab.errors import BadInput
from alignlab.generation.vllm_sampler import VllmSamplerOptions
from alignlab.redo import events
from alignlab.runs import Run
from alignlab.types import CompletionRequest, Count, Message, Sampling


def task(name: str, function: Any, *arguments: Any, among: int = 2) -> Task:
    return Task(name, name, pickle.dumps((function, arguments)), among)


def square(n: int) -> int:
    with progress.task(f"square {n}", 1) as bar:
        bar.advance()
    return n * n


def refuse(n: int) -> int:
    raise BadInput(f"no {n}")


def divide(n: int) -> float:
    return n / 0


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def see(*names: str) -> list[str | None]:
    """Variables of the environment, the folder, and the modules that were imported."""
    return [*(os.environ.get(name) for name in names), os.getcwd()]


def units(run: Run, number: int, die_at: int = -1, pause: float = 0.0) -> list[int]:
    """Write units, one record each; die once before a unit is written."""
    with run.stage("work") as stage:
        file = stage.records("counts", Count)
        for unit in range(number):
            if str(unit) in file.units:
                continue
            once = Path(stage.path / "died")
            if unit == die_at and not once.exists():
                once.touch()
                with file.path.open("a") as torn:
                    torn.write('{"torn')  # what a kill leaves behind the last unit
                kill()
            time.sleep(pause)
            file.append(str(unit), [Count("toy", f"unit {unit}", unit)])
        return [count.kept for count in file.read()]


def outlive(run: Run, flag: str) -> str:
    """Go on after the claim was lost, as a worker that was cut off would; once."""
    if Path(flag).exists():
        return "another attempt"
    with run.stage("work") as stage:
        file = stage.records("counts", Count)
        for unit in range(600):
            file.append(str(unit), [Count("toy", "unit", unit)])
            Path(flag).write_text(str(os.getpid()))
            time.sleep(0.1)
    return "written to the end"


def fail_on(rank: int) -> None:
    """Refuse on one rank, in what all ranks of the task do."""
    from alignlab.training.ranks import run_on_all_ranks

    run_on_all_ranks(_refuse_on, rank, sharded=False, device="cpu", here={})


def _refuse_on(world: Any, rank: int) -> None:
    if world.rank == rank:
        raise BadInput(f"no rank {rank}")
    world.wait()


def train(objective: str, model: str, data: str, out: str, settings: dict[str, Any]) -> str:
    """Train a model with all ranks of the task."""
    from alignlab.commands.train import train as of_command

    return str(of_command(objective, model=model, data=data, out=out, **settings).model.path)


def span(seconds: float) -> tuple[float, float]:
    """When a task began and ended."""
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


def rest(flag: str) -> None:
    Path(flag).write_text(str(os.getpid()))
    time.sleep(600)


MODEL = PooledModel("toy", "none", "float32", None, "cpu", 2, 1)
"""Model that is named and never loaded."""


def chunks(
    run: Run, number: int, die_at: int = -1, refuse_at: int = -1, pause: float = 0.1
) -> dict[str, Any]:
    """Let the engines square numbers, one a chunk, and write a record each."""
    pids = []

    def work(some: Sequence[int]) -> list[Count]:
        (item,) = some
        engines = engine_pool._engines_of(MODEL)
        flag = str(run.path / "died") if item == die_at else ""
        squared, pid = engines.call(square_on, MODEL, item, flag, item == refuse_at, pause)
        pids.append(pid)
        return [Count("toy", f"chunk {item}", squared)]

    with run.stage("work") as stage:
        found = stage.map(
            "counts", Count, range(number), work, chunk=1, title="toy", at_once=lambda: 2
        )
    return {"squares": [count.kept for count in found], "pids": pids, "own": os.getpid()}


def until_restarted(run: Run) -> list[int]:
    """Kill an engine, and go on asking both until it has started again and answered."""
    pids: list[int] = []
    deadline = time.monotonic() + 300

    def work(item: int) -> int:
        flag = str(run.path / "died") if item == 0 else ""
        return engine_pool._engines_of(MODEL).call(square_on, MODEL, item, flag, False, 0.5)[1]

    for pid in in_order(work, range(2000), 2):
        pids.append(pid)
        known = [e["pid"] for e in events(run.path) if e["event"] == "engine"]
        if len(known) > 2 and known[-1] in pids:
            break
        assert time.monotonic() < deadline
    return pids


def completed(run: Run, folders: Sequence[str], number: int) -> list[str]:
    """Let vLLM engines complete a prompt by one model after the other, and write a record each."""

    def work(some: Sequence[int]) -> list[Count]:
        (item,) = some
        model = PooledModel(
            *("toy", folders[item % len(folders)], "float32", None, "cpu", 2, 1),
            vllm=VllmSamplerOptions(),
            logs=str(run.path / engine_pool.ENGINE_LOGS),
        )
        request = CompletionRequest(str(item), (Message("user", "Hi"),), Sampling(0, 1, 5, 1), 0)
        ((one,),) = EnginePool(model).complete([request])
        return [Count("toy", one.text, item)]

    with run.stage("work") as stage:
        found = stage.map(
            "counts", Count, range(number), work, chunk=1, title="toy", at_once=lambda: 2
        )
    return [count.what for count in found]


def square_on(
    model: PooledModel,
    device: str,
    item: int,
    flag: str = "",
    refused: bool = False,
    pause: float = 0.0,
) -> tuple[int, int]:
    """Square a number on an engine; die once, or refuse."""
    assert (model, device) == (MODEL, "cpu")
    if refused:
        raise BadInput(f"no {item}")
    if flag and not Path(flag).exists():
        Path(flag).touch()
        kill()
    time.sleep(pause)
    return item * item, os.getpid()
