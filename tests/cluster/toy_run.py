"""Run tasks without models on a cluster, as a command that can be killed and repeated:

python -m tests.cluster.toy_run ADDRESS OUT TASKS UNITS PAUSE [ENGINES [PROCESSES]]

With engines, they do the units of the tasks.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

from alignlab import progress
from alignlab.cluster.placement import Layout
from alignlab.cluster.session import connected
from alignlab.cluster.tasks import Task, Tasks
from alignlab.errors import BadInput, RunFailed
from alignlab.runs import Run, RunIdentity
from tests.cluster import toy


def main(
    address: str,
    out: str,
    number: str,
    units: str,
    pause: str,
    engines: str = "0",
    processes: str = "1",
) -> None:
    progress.use(progress.Lines(2.0))
    with connected(address) as session:
        nodes = session.nodes()
        session.refuse_others(nodes, Path(out).parent)
        run = Run.start(Path(out), RunIdentity("toy", {}, (0,)))
        found = {}

        def then(task: Task, result: bytes) -> list[Task]:
            found[task.name] = len(pickle.loads(result))
            return []

        layout = Layout(nodes, engines=int(engines), processes=int(processes))
        tasks = Tasks(session, run, layout)
        parts = [f"part-{i}" for i in range(int(number))]
        work = [
            toy.task(p, toy.chunks, run.scope(p), int(units), -1, -1, float(pause))
            if int(engines)
            else toy.task(
                p, toy.units, run.scope(p), int(units), -1, float(pause), among=len(parts)
            )
            for p in parts
        ]
        tasks.run(work, then)
        print(json.dumps(found))
        run.finish()
        run.close()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (BadInput, RunFailed) as error:
        print(f"alignlab: {error}", file=sys.stderr)
        sys.exit(1)
