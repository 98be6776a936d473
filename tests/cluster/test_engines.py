"""Engines of a cluster: shared by tasks, lost and asked again, and the records of one process."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignlab import engine_pool
from alignlab.cluster import engines as engines_
from alignlab.cluster.engines import ClusterEngines
from alignlab.cluster.placement import Layout
from alignlab.cluster.session import Session
from alignlab.cluster.tasks import Tasks
from alignlab.cluster.worker import Ended, Order, Site
from alignlab.errors import BadInput, RunFailed
from alignlab.redo import events
from alignlab.runs import Run
from tests.cluster import toy
from tests.cluster.one_machine import ray_here
from tests.recipes import kill_resume
from tests.recipes.small import SMALL
from tests.running import CommandLine

KEY = "sk-of-a-test-that-no-log-may-hold"
ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")

STUDY = (
    "self_rewarding",
    *(setting for setting in SMALL if "workers" not in setting),
    "hardware.threads=1",
    "hardware.device=cpu",
    "measure.judge=llm,samples=2,max_tokens=8:self",
)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with ray_here(3) as found:
        yield found


def noted(run: Path, event: str) -> list[dict[str, Any]]:
    return [one for one in events(run) if one["event"] == event]


def done(session: Session, run: Run, *tasks: Any) -> dict[str, Any]:
    """Results of tasks that two engines share, by name."""
    found = {}

    def then(task: Any, result: bytes) -> list[Any]:
        found[task.name] = pickle.loads(result)
        return []

    Tasks(session, run, Layout(session.nodes(), engines=2)).run(tasks, then)
    return found


def test_two_tasks_share_two_engines(session: Session, run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    parts = [toy.task(n, toy.chunks, run.scope(n), 8) for n in ("a", "b")]
    found = done(session, run, *parts)
    assert {name: one["squares"] for name, one in found.items()} == {
        name: [k * k for k in range(8)] for name in ("a", "b")
    }
    pids = {one["pid"] for one in noted(run.path, "engine")}
    assert {one["engine"] for one in noted(run.path, "engine")} == {"engine 1", "engine 2"}
    assert len(pids) == 2
    for one in found.values():  # both engines worked for each, and none of their chunks was its own
        assert set(one["pids"]) == pids
        assert one["own"] not in pids
    assert noted(run.path, "lost") == []
    # A task that waits for engines keeps its CPU: the second one begins when the first is done.
    order = [e["event"] for e in events(run.path) if e["event"] in ("task", "done")]
    assert order == ["task", "done"] * 2
    for pid in pids:
        wait_for_end(pid)
    place = Path(session.ray._private.worker._global_node.get_session_dir_path())
    files = [file for file in (*place.rglob("*"), *run.path.rglob("*")) if file.is_file()]
    assert len(files) > 5
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []


def test_a_lost_engine_costs_its_unfinished_chunk(session: Session, run: Run):
    found = done(session, run, toy.task("a", toy.chunks, run.scope("a"), 12, 3))["a"]
    assert found["squares"] == [k * k for k in range(12)]
    folder = run.path / "stages/a/01-work"
    lines = (folder / "counts.jsonl").read_text().splitlines()
    assert [json.loads(line)["kept"] for line in lines] == [k * k for k in range(12)]
    (lost,) = noted(run.path, "lost")
    assert lost["task"] in ("engine 1", "engine 2")
    assert lost["reason"] == "the engine is gone"
    assert len(found["pids"]) == 12


def test_a_lost_engine_starts_again(session: Session, run: Run):
    pids = done(session, run, toy.task("a", toy.until_restarted, run.scope("a")))["a"]
    (lost,) = noted(run.path, "lost")
    *_, again = noted(run.path, "engine")
    assert again["engine"] == lost["task"]
    assert again["pid"] in pids  # it gets calls again


def test_the_error_of_a_chunk_is_raised_as_it_was(session: Session, run: Run):
    with pytest.raises(BadInput, match=r"^no 2$"):
        done(session, run, toy.task("a", toy.chunks, run.scope("a"), 4, -1, 2))
    assert noted(run.path, "lost") == []


@dataclass
class FakeEngine:
    """Handle of an engine whose process is here."""

    answers: list[Any]
    """What each call comes to: None for a result, else an error; then results."""
    up: list[bool] = field(default_factory=list)
    """Whether each `ready` is answered; then it is."""
    calls: int = 0
    closes: ClusterEngines | None = None
    """Client whose task ends during a call."""

    @property
    def setup(self) -> Any:
        return SimpleNamespace(name="engine")

    def do(self, work: bytes) -> Any:
        return _Answer(self._do, work)

    def ready(self) -> Any:
        return _Answer(self._ready)

    def _do(self, work: bytes) -> Ended:
        self.calls += 1
        if self.closes is not None:
            self.closes.close()
        error = self.answers.pop(0) if self.answers else None
        if error is not None:
            raise error
        function, arguments = pickle.loads(work)
        return Ended(pickle.dumps(function(*arguments)), None, 0.5)

    def _ready(self) -> Ended:
        if self.up and not self.up.pop(0):
            raise ray.exceptions.ActorUnavailableError("restarting", None)
        return Ended()


class _Answer:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._made: Future[Any] = Future()
        try:
            self._made.set_result(function(*arguments))
        except Exception as error:
            self._made.set_exception(error)

    def future(self) -> Future[Any]:
        return self._made


def client(run: Run, *engines: FakeEngine, number: int = 0) -> ClusterEngines:
    site = Site(run.path, Path.cwd(), None, {}, {}, {})
    return ClusterEngines(engines, Order("a", number, 1, 1, b"", site))


def gone() -> Exception:
    return ray.exceptions.ActorDiedError()


def test_tasks_begin_with_different_engines(run: Run):
    pair = FakeEngine([]), FakeEngine([])
    for number in (1, 2, 4):
        assert client(run, *pair, number=number).call(toy.square_on, toy.MODEL, 3)[0] == 9
    assert [engine.calls for engine in pair] == [2, 1]


def test_a_lost_chunk_is_asked_of_another_engine_and_the_lost_one_when_it_answers(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engines_, "PING_S", 0.0)
    first, second = FakeEngine([gone()], up=[False, False]), FakeEngine([])
    shared = client(run, first, second)
    assert shared.call(toy.square_on, toy.MODEL, 3)[0] == 9
    assert (first.calls, second.calls) == (1, 1)
    assert len(noted(run.path, "lost")) == 1
    while first.calls == 1:  # looked for at each call
        assert shared.call(toy.square_on, toy.MODEL, 4)[0] == 16
    assert second.calls <= 4
    assert shared.peak_gigabytes == 0.5


def test_without_engines_a_task_computes_itself(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engines_, "PATIENCE_S", 0.2)
    monkeypatch.setattr(engines_, "PING_S", 0.0)
    monkeypatch.setattr(engines_, "POLL_S", 0.01)
    never = [False] * 10_000
    pair = [FakeEngine([gone()], up=list(never)) for _ in range(2)]
    shared = client(run, *pair)
    assert [shared.call(toy.square_on, toy.MODEL, k) for k in (3, 4)] == [
        (9, os.getpid()), (16, os.getpid())
    ]  # fmt: skip
    assert [engine.calls for engine in pair] == [1, 1]  # not asked again before they answer
    assert len(noted(run.path, "lost")) == 2


def test_a_chunk_that_is_always_lost_ends_the_run(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engines_, "POLL_S", 0.01)
    engine = FakeEngine([gone() for _ in range(9)])
    with pytest.raises(RunFailed, match="a chunk was lost 4 times with its engine; the same comma"):
        client(run, engine).call(toy.square_on, toy.MODEL, 3)
    assert engine.calls == 4


def test_a_task_that_has_ended_asks_nobody(run: Run):
    engine = FakeEngine([])
    shared = client(run, engine)
    engine.answers = [gone()]
    engine.closes = shared
    with pytest.raises(RunFailed, match="has ended"):
        shared.call(toy.square_on, toy.MODEL, 3)
    assert engine.calls == 1
    assert noted(run.path, "lost") == []


def test_engines_without_room_are_refused_before_anything_is_written(
    session: Session, alignlab: CommandLine, tmp_path: Path
):
    out = tmp_path / "run"
    ended = alignlab("run", *STUDY, "hardware.cluster=auto", "hardware.engines=3", f"out={out}")
    assert ended.code == 2
    assert "hardware.engines: expected a cluster with room for 3 engines" in ended.line
    assert not out.exists()


@pytest.mark.usefixtures("eight_cpus")
def test_the_plan_shows_the_engines(alignlab: CommandLine):
    shown = alignlab(
        "check", *STUDY, "hardware.cluster=auto", "hardware.engines=3", "--rough", "--sample", "0"
    )
    assert shown.code == 0, shown.err
    lines = [line.strip() for line in shown.out.splitlines()]
    (at,) = [i for i, line in enumerate(lines) if line.startswith("places")]
    assert lines[at].endswith("GB each: 1 at once")
    assert lines[at + 1].startswith("3 engines that sample and judge for them, 1 CPU, ")
    assert lines[at + 2] == "this machine: 8 CPUs, 16.0 GB; 3 engines, 5 tasks at once"


@pytest.mark.heavy
def test_a_study_on_engines_equals_one_without_even_if_one_is_killed(
    session: Session, alignlab: CommandLine, tmp_path: Path
):
    here, there = tmp_path / "here", tmp_path / "there"
    alone = alignlab("run", *STUDY, "hardware.workers=1", f"out={here}")
    assert alone.code == 0, alone.err
    killed: list[int] = []

    def kill() -> None:
        """Kill an engine as soon as answers were written."""
        while not list(there.glob("stages/**/responses.jsonl")):
            time.sleep(0.05)
        pid = noted(there, "engine")[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    placed = alignlab("run", *STUDY, "hardware.cluster=auto", "hardware.engines=2", f"out={there}")
    assert placed.code == 0, placed.err
    thread.join(10)
    assert killed
    expected, found = kill_resume.contents(here), kill_resume.contents(there)
    assert kill_resume.differences(expected, found) == ()
    manifest = json.loads((there / "manifest.json").read_text())
    assert manifest["cluster"]["engines"] == 2
    assert manifest["cluster"]["lost_attempts"] == len(noted(there, "lost")) <= 1
    assert engine_pool._held == {}  # this process loaded no model for them


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        assert time.monotonic() < deadline, "the engine lives on"
        time.sleep(0.1)
