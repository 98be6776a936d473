"""Branches give their results in order, wherever they ran, and die with their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alignlab import progress
from alignlab.errors import BadInput, RunFailed
from alignlab.parallel import Branch, run_branches


def square(n: int) -> int:
    with progress.task(f"square {n}", 1) as bar:
        bar.advance()
    return n * n


def refuse(n: int) -> int:
    raise BadInput(f"no {n}")


def vanish(n: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return n


def vanish_while_reporting(n: int) -> int:
    """Hold the lock of the queue of progress for good, as a kill in the midst of a report does."""
    progress._sink._updates._wlock.acquire()
    return vanish(n)


def rest(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
    progress.use(progress.Silent())
    branches = [Branch(str(n), square, (n,)) for n in (3, 1, 2)]
    assert run_branches(branches, workers, threads=1) == [9, 1, 4]
    progress.use(None)


def test_the_first_error_is_raised_as_it_was():
    with pytest.raises(BadInput, match="no 2"):
        run_branches([Branch("a", square, (1,)), Branch("b", refuse, (2,))], 2, threads=1)


def test_a_killed_worker_fails_the_run():
    with pytest.raises(RunFailed, match="worker process was killed"):
        run_branches([Branch("a", vanish, (1,)), Branch("b", square, (2,))], 2, threads=1)


def test_workers_die_with_their_parent(tmp_path):
    code = (
        "from alignlab.parallel import Branch, run_branches\n"
        "from tests.test_parallel import rest\n"
        "if __name__ == '__main__':\n"
        f"    run_branches([Branch(str(i), rest, (r'{tmp_path}/' + str(i),)) for i in (0, 1)],"
        " 2, threads=1)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": "."})
    pids = [_wait_for(tmp_path / str(i)) for i in (0, 1)]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)


def test_a_worker_killed_while_it_reports_does_not_hold_up_the_end(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "from alignlab.errors import RunFailed\n"
        "from alignlab.parallel import Branch, run_branches\n"
        "from tests.test_parallel import square, vanish_while_reporting\n"
        "if __name__ == '__main__':\n"
        "    branches = [Branch('a', vanish_while_reporting, (1,)), Branch('b', square, (2,))]\n"
        "    try:\n"
        "        run_branches(branches, 2, threads=1)\n"
        "    except RunFailed as error:\n"
        "        print(error)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": "."},
                           capture_output=True, text=True, timeout=120)  # fmt: skip
    assert "worker process was killed" in ended.stdout, ended.stderr


def _wait_for(path) -> int:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return int(path.read_text())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"
