"""Compute for a fixed number of CPU seconds in each of several tasks; print the seconds taken:

python -m tests.cluster.busy_run ADDRESS TASKS SECONDS
"""

from __future__ import annotations

import pickle
import sys
import tempfile
import time
from pathlib import Path

from alignlab.cluster.placement import Layout
from alignlab.cluster.session import connected
from alignlab.cluster.tasks import Task, Tasks
from alignlab.runs import Run, RunIdentity


def busy(seconds: float) -> float:
    """Compute for so many CPU seconds."""
    began = time.process_time()
    while time.process_time() - began < seconds:
        sum(range(10_000))
    return seconds


def main(address: str, number: str, seconds: str) -> None:
    from tests.cluster.busy_run import busy as work  # by the module's name, which nodes know

    with connected(address) as session, tempfile.TemporaryDirectory() as folder:
        run = Run.start(Path(folder) / "run", RunIdentity("toy", {}, (0,)))
        tasks = Tasks(session, run, Layout(session.nodes()))
        tasks.run([_task(f"warm-{i}", work, 0.1) for i in range(int(number))], lambda *_: ())
        began = time.perf_counter()
        tasks.run([_task(f"task-{i}", work, float(seconds)) for i in range(int(number))], _none)
        print(time.perf_counter() - began)
        run.close()


def _task(name: str, work: object, seconds: float) -> Task:
    return Task(name, name, pickle.dumps((work, (seconds,))), 100)


def _none(*_: object) -> tuple[Task, ...]:
    return ()


if __name__ == "__main__":
    main(*sys.argv[1:])
