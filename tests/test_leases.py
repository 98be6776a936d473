"""A run directory is held across machines whose file locks do not reach each other."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alignlab import leases
from alignlab.errors import RunFailed
from alignlab.leases import Lease
from alignlab.runs import Run, RunIdentity
from alignlab.types import Count
from tests.conftest import ROOT

OTHER = """
import os, sys, time
from pathlib import Path
from alignlab import leases, run_stage, runs, types
leases.this_host = lambda: ("node-2", "boot-2")
leases.BEAT_S = 0.05
# On the shared file system, locks of files reach one machine only.
runs.lock = run_stage.lock = lambda path, busy: os.open(path, os.O_CREAT | os.O_RDWR)
run = runs.Run.start(Path(sys.argv[1]), runs.RunIdentity("toy", {}, (0,)))
with run.stage("work") as stage:
    file = stage.records("counts", types.Count)
    print("held", flush=True)
    for number, line in enumerate(sys.stdin):
        file.append(line.strip(), [types.Count("s", "other", number)])
        print("wrote", flush=True)
run.close()
"""
"""A run on another machine, which writes a unit for every line that it reads."""


@pytest.fixture
def node_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "this_host", lambda: ("node-1", "boot-1"))
    monkeypatch.setattr(leases, "STALE_S", 1.0)
    for module in ("runs", "run_stage"):
        monkeypatch.setattr(
            f"alignlab.{module}.lock", lambda path, _: os.open(path, os.O_CREAT | 2)
        )


def start(path: Path) -> Run:
    return Run.start(path, RunIdentity("toy", {}, (0,)))


def other(path: Path) -> subprocess.Popen[str]:
    """A process with another host's name that works on a run."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n", process.communicate()[1]
    return process


def age(path: Path, seconds: float) -> None:
    before = time.time() - seconds
    os.utime(path / ".lease", (before, before))


def foreign(path: Path, host: str, boot: str) -> None:
    path.mkdir(exist_ok=True)
    holder = {"host": host, "boot": boot, "pid": 77, "lease": "x"}
    (path / ".lease").write_text(json.dumps(holder))


@pytest.mark.usefixtures("node_1")
def test_two_machines_do_not_write_one_run(tmp_path: Path) -> None:
    process = other(tmp_path / "r")
    time.sleep(1.3)  # longer than the silence of the dead: its signs of life are seen
    with pytest.raises(RunFailed, match=rf"process {process.pid} on node-2 is working on this run"):
        start(tmp_path / "r")
    process.communicate("one\n", timeout=30)
    assert process.returncode == 0
    assert not (tmp_path / "r/.lease").exists()
    start(tmp_path / "r").close()


@pytest.mark.usefixtures("node_1")
def test_a_killed_machines_run_is_taken_over_by_hand(tmp_path: Path) -> None:
    process = other(tmp_path / "r")
    process.kill()
    process.communicate()
    with pytest.raises(RunFailed, match=r"is working on this run \(last sign of life . s ago\)$"):
        start(tmp_path / "r")
    age(tmp_path / "r", 7500)
    with pytest.raises(RunFailed) as refused:
        start(tmp_path / "r")
    lease = tmp_path / "r/.lease"
    assert str(refused.value) == (
        f"{tmp_path / 'r'}: process {process.pid} on node-2 held this run, its last sign of life "
        f"was 2.1 h ago; if it is dead, remove {lease} to take the run over"
    )
    lease.unlink()
    run = start(tmp_path / "r")
    assert leases.holder(lease) is not None
    with run.stage("work") as stage:
        assert stage.records("counts", Count).units == set()
    run.close()


@pytest.mark.usefixtures("node_1")
def test_a_machine_that_was_only_cut_off_writes_nothing_more(tmp_path: Path) -> None:
    process = other(tmp_path / "r")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("one\n")
    process.stdin.flush()
    assert process.stdout.readline() == "wrote\n"
    (tmp_path / "r/.lease").unlink()
    run = start(tmp_path / "r")
    _, error = process.communicate("two\n", timeout=30)
    assert process.returncode == 1
    assert f"process {os.getpid()} on node-1 took over this run; nothing more is written" in error
    with run.stage("work") as stage:
        assert stage.records("counts", Count).units == {"one"}
    assert leases.holder(tmp_path / "r/.lease")["pid"] == os.getpid()
    run.close()


@pytest.mark.usefixtures("node_1")
@pytest.mark.parametrize(
    ("host", "boot", "silent", "refused"),
    [
        ("node-2", "boot-2", 0, True),
        ("node-2", "boot-2", 10, True),
        ("node-1", "boot-0", 0, True),  # another machine of the same name may live
        ("node-1", "boot-0", 10, False),  # this one was started again
        ("node-1", "boot-1", 0, False),  # the file lock was free
        ("in-a-container", "boot-1", 0, False),
    ],
)
def test_who_is_refused(tmp_path: Path, host: str, boot: str, silent: float, refused: bool) -> None:
    foreign(tmp_path, host, boot)
    age(tmp_path, silent)
    if refused:
        with pytest.raises(RunFailed):
            Lease.take(tmp_path)
        assert leases.holder(tmp_path / ".lease")["pid"] == 77
    else:
        Lease.take(tmp_path).release()
    assert [p.name for p in tmp_path.iterdir()] == [".lease"] * refused


@pytest.mark.usefixtures("node_1")
def test_a_torn_lease_is_an_unknown_hosts(tmp_path: Path) -> None:
    (tmp_path / ".lease").touch()
    with pytest.raises(RunFailed, match=r"process \? on an unknown host is working"):
        Lease.take(tmp_path)


def test_signs_of_life_are_given_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.02)
    lease = Lease.take(tmp_path)
    age(tmp_path, 500)
    deadline = time.monotonic() + 10
    while (tmp_path / ".lease").stat().st_mtime < time.time() - 100:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lease.check()
    lease.release()
    assert not (tmp_path / ".lease").exists()


def test_a_worker_checks_and_leaves_the_lease(tmp_path: Path) -> None:
    lease = Lease.take(tmp_path)
    of_worker = pickle.loads(pickle.dumps(lease))
    of_worker.check()
    del of_worker
    assert (tmp_path / ".lease").exists()
    lease.release()
    with pytest.raises(RunFailed, match="somebody took over"):
        lease.check()


def test_a_forgotten_lease_is_removed(tmp_path: Path) -> None:
    lease = Lease.take(tmp_path)
    del lease
    assert not (tmp_path / ".lease").exists()
