"""Tasks without models, for tests of what happens around them; nodes import this module."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

from alignlab import progress
from alignlab.cluster.tasks import Task
from alignlab.errors import BadInput
from alignlab.runs import Run
from alignlab.types import Count


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


def span(seconds: float) -> tuple[float, float]:
    """When a task began and ended."""
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


def rest(flag: str) -> None:
    Path(flag).write_text(str(os.getpid()))
    time.sleep(600)
