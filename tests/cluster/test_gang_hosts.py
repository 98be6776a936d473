"""A task of two processes on two hosts: they meet, and a lost host costs an attempt."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alignlab.redo import events
from tests.cluster.hosts import Hosts, missing

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(bool(reason := missing()), reason=reason or "there is a cluster"),
]
UNITS = 12
LIMIT_S = 400


@pytest.mark.parametrize("end", ["kill", "cut"])
def test_a_host_of_a_task_is_lost(tmp_path: Path, end: str):
    """The host without the command dies or is cut off in the midst of a task, and comes back."""
    out, log = tmp_path / "run", tmp_path / "run.log"
    words = [str(out), "1", str(UNITS), "1.0", "0", "2"]
    with Hosts(2, network="10.79.0") as hosts:
        argv = [sys.executable, "-m", "tests.cluster.toy_run", hosts.address, *words]
        process = hosts.run(0, argv, log)

        def until(event: str, number: int) -> list[dict[str, Any]]:
            deadline = time.monotonic() + LIMIT_S
            while len(found := [e for e in events(out) if e["event"] == event]) < number:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            return found

        (met,) = until("processes", 1)
        assert {one["node"] for one in met["processes"]} == set(hosts.addresses)
        getattr(hosts, end)(1)
        until("lost", 1)
        if end == "cut":
            hosts.mend(1)
            time.sleep(5)  # whatever of the lost attempt lives would write now
            hosts.kill(1)
        hosts.start(1)
        assert process.wait(LIMIT_S) == 0, log.read_text()
    folder = out / "stages/part-0/01-work"
    written = [json.loads(line) for line in (folder / "counts.jsonl").read_text().splitlines()]
    assert [one["kept"] for one in written] == list(range(UNITS))
    commits = [json.loads(line) for line in (folder / "commits.jsonl").open()]
    assert [one["unit"] for one in commits] == [str(unit) for unit in range(UNITS)]
