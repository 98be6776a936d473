"""Tasks on a Ray of two CPUs: results, errors, lost workers, claims, keys, and their end."""

from __future__ import annotations

import _thread
import itertools
import json
import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alignlab import leases, progress
from alignlab.cluster import session as sessions
from alignlab.cluster import tasks as tasks_
from alignlab.cluster import worker
from alignlab.cluster.placement import Layout
from alignlab.cluster.session import Session
from alignlab.cluster.tasks import Task, Tasks
from alignlab.errors import BadInput, RunFailed
from alignlab.generation.cache import AnswerCache, Spent
from alignlab.redo import events
from alignlab.runs import Run, RunIdentity
from alignlab.types import Count
from tests.cluster import toy
from tests.cluster.one_machine import ray_here

pytest.importorskip("ray", reason="the extra [ray] is not installed")

KEY = "sk-of-a-test-that-no-log-may-hold"


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with ray_here(2) as found:
        yield found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run.start(tmp_path / "run", RunIdentity("toy", {}, (0,)))
    yield run
    run.close()


class Shown(progress.Silent):
    """What was shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: set[str] = set()

    def show(self, update: progress.Update) -> None:
        self.tasks.add(update.task)

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    monkeypatch.setattr(tasks_, "GRACE_S", 1.0)
    sink = Shown()
    progress.use(sink)
    yield sink
    progress.use(None)


def results(session: Session, run: Run, *tasks: Task, most: int = 0) -> dict[str, Any]:
    """Results of tasks by name."""
    found = {}

    def then(task: Task, result: bytes) -> list[Task]:
        found[task.name] = pickle.loads(result)
        return []

    Tasks(session, run, Layout(session.nodes(), most=most)).run(tasks, then)
    return found


def noted(run: Run, event: str) -> list[dict[str, Any]]:
    return [one for one in events(run.path) if one["event"] == event]


def test_results_come_back_and_progress_is_shown(session, run, shown):
    found = results(session, run, toy.task("a", toy.square, 3), toy.task("b", toy.square, 4))
    assert found == {"a": 9, "b": 16}
    assert {"square 3", "square 4"} <= shown.tasks
    assert {one["attempt"] for one in noted(run, "task")} == {1}
    assert not (run.path / ".tasks").exists()


def test_no_more_at_once_than_asked_for(session, run, shown):
    names = ("a", "b", "c")
    found = results(session, run, *(toy.task(n, toy.span, 0.3) for n in names), most=1)
    spans = sorted(found.values())
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_a_tasks_own_error_is_raised_as_it_was_and_not_tried_again(session, run, shown):
    with pytest.raises(BadInput, match=r"^no 2$"):
        results(session, run, toy.task("a", toy.refuse, 2))
    with pytest.raises(ZeroDivisionError) as raised:
        results(session, run, toy.task("b", toy.divide, 2))
    assert "in b on " in raised.value.__notes__[0]
    assert "return n / 0" in raised.value.__notes__[0]
    assert len(noted(run, "task")) == 2
    assert noted(run, "lost") == []


def test_a_lost_worker_costs_its_unfinished_unit(session, run, shown):
    found = results(session, run, toy.task("part", toy.units, run.scope("part"), 5, 3))
    assert found == {"part": [0, 1, 2, 3, 4]}
    folder = run.path / "stages/part/01-work"
    lines = (folder / "counts.jsonl").read_text().splitlines()
    assert [json.loads(line)["kept"] for line in lines] == [0, 1, 2, 3, 4]
    first, second = noted(run, "task")
    assert first["pid"] != second["pid"]
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert [one["reason"] for one in noted(run, "lost")] == ["its worker is gone"]
    assert "part: its worker is gone; attempt 2 of 4 goes on" in shown.lines


def test_a_task_that_is_always_lost_ends_the_run(session, run, shown, monkeypatch):
    monkeypatch.setattr(tasks_, "RETRIES", 1)
    with pytest.raises(RunFailed, match=r"^a: lost 2 times \(its worker is gone\); the same comma"):
        results(session, run, toy.task("a", toy.kill))
    assert len(noted(run, "lost")) == 2


def test_a_worker_whose_task_was_given_away_ends_and_writes_nothing_more(
    session, run, shown, tmp_path
):
    flag = tmp_path / "pid"

    def give_away() -> None:
        pid = read(flag)
        (run.path / ".tasks/1").write_text("another worker's\n")
        wait_for_end(pid)

    thread = threading.Thread(target=give_away)
    thread.start()
    task = toy.task("part", toy.outlive, run.scope("part"), str(flag))
    assert results(session, run, task) == {"part": "another attempt"}
    thread.join()
    with run.scope("part").stage("work") as stage:
        written = stage.records("counts", Count).read()
    assert 1 <= len(written) < 100
    assert [one.kept for one in written] == list(range(len(written)))


def test_a_stopped_command_ends_its_tasks(session, run, shown, tmp_path):
    flag, stopped = tmp_path / "pid", threading.Event()

    def stop() -> None:
        read(flag)
        _thread.interrupt_main()
        while not stopped.wait(20):  # Python drops an interrupt that falls into a finaliser
            _thread.interrupt_main()

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        results(session, run, toy.task("a", toy.rest, str(flag)))
    stopped.set()
    wait_for_end(read(flag))


def test_tasks_have_the_commands_variables_and_folder_and_no_log_has_its_key(
    session, run, shown, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME_OF_ANOTHER", "x")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = ("OPENAI_API_KEY", "HF_HUB_OFFLINE", "HOME_OF_ANOTHER", "OMP_NUM_THREADS")
    task = toy.task("a", toy.see, *names)
    found = results(session, run, task)["a"]
    assert found == [KEY, "1", None, None, os.getcwd()]
    place = Path(session.ray._private.worker._global_node.get_session_dir_path())
    files = [file for file in (*place.rglob("*"), *run.path.rglob("*")) if file.is_file()]
    assert len(files) > 5
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []
    assert KEY not in repr(tasks_.Order("a", 1, 1, 1, b"", site(run)))


def test_a_node_with_another_source_is_refused(session, run, shown, monkeypatch, tmp_path):
    nodes = session.nodes()
    session.refuse_others(nodes, tmp_path)
    assert list(tmp_path.glob(".*")) == []  # the probe is gone
    mine = {**worker.versions(), "alignlab": "9.9 (of another)"}
    monkeypatch.setattr(worker, "versions", lambda: mine)
    found = worker.source_digest()
    with pytest.raises(BadInput) as refused:
        session.refuse_others(nodes, tmp_path)
    assert str(refused.value).startswith(f"node {nodes[0].address}: expected alignlab 9.9 (of an")
    assert str(refused.value).endswith(f"({found}); expected the same on every node")
    with pytest.raises(BadInput, match=r"9\.9 \(of another\), found .* install the same on every"):
        results(session, run, toy.task("a", toy.square, 1))  # a node that came later


def test_a_node_without_the_folder_is_refused(tmp_path):
    assert worker.look(worker.versions(), tmp_path) == ""
    gone = tmp_path / "not-there/probe"
    assert worker.look(worker.versions(), gone) == (
        f"expected the folder {gone.parent}, found another or none"
    )


def test_a_claim_is_checked_with_the_lease(run, tmp_path):
    claim = tmp_path / "1"
    claim.write_text("mine 1\n")
    leases.act_under(claim, "mine 1\n")
    try:
        run.lease.check()
        assert not run.lease.is_lost()
        claim.write_text("mine 2\n")
        assert run.lease.is_lost()
        with pytest.raises(RunFailed, match="another worker took over; nothing more is written"):
            run.lease.check()
    finally:
        leases.act_under(None)
    run.lease.check()


def test_answers_are_cached_without_memory_in_common(tmp_path):
    file = tmp_path / "cache/calls.sqlite"
    first = AnswerCache(file)  # of a session without a cluster
    first.put("a", "s", "one", Spent())
    first.close()
    leases.act_under(tmp_path / "1", "mine 1\n")
    try:
        here, there = AnswerCache(file), AnswerCache(file)
        here.put("b", "s", "two", Spent())
        there.put("c", "s", "three", Spent())
        assert [here.get(key) for key in "abc"] == ["one", "two", "three"]
        (mode,) = here._db.execute("PRAGMA journal_mode").fetchone()
        assert mode == "truncate"
    finally:
        leases.act_under(None)


def test_an_address_is_checked_and_ray_is_asked_for_by_its_extra(monkeypatch):
    for wrong in ("ray://head:10001", "head", "head:x", ":6379", "http://head:6379"):
        with pytest.raises(BadInput, match="expected auto, or HOST:PORT of the cluster's head"):
            sessions.refuse_address(wrong)
    for right in ("auto", "10.0.0.1:6379", "head.local:6379"):
        sessions.refuse_address(right)
    monkeypatch.setattr(sessions, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'alignlab\[ray\]'"):
        sessions.require_ray()


def test_a_silent_head_is_noticed(monkeypatch):
    monkeypatch.setattr(sessions, "BEAT_S", 0.05)
    monkeypatch.setattr(sessions, "REFUSED_S", 0.2)
    head = sessions.HeadWatch("127.0.0.1:9")
    head.check()
    time.sleep(0.3)
    with pytest.raises(RunFailed, match=r"head of the cluster at 127\.0\.0\.1:9 does not answer"):
        head.check()


def site(run: Run) -> worker.Site:
    return worker.Site(run.path, Path.cwd(), run.lease, {}, {}, {"OPENAI_API_KEY": KEY})


def read(flag: Path) -> int:
    deadline = time.monotonic() + 120
    while not (flag.exists() and flag.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(flag.read_text())


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.1)
