"""Engines by vLLM on a cluster: their weights, their deaths, and nodes without them.

vLLM is a stand-in; with ALIGNLAB_VLLM_PYTHON and ALIGNLAB_MODELS the heavy tests start vLLM itself.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alignlab import engine_pool
from alignlab.cluster.placement import Layout
from alignlab.cluster.session import Session
from alignlab.cluster.tasks import Tasks
from alignlab.errors import BadInput, RunFailed
from alignlab.generation import vllm_process
from alignlab.generation.vllm_sampler import VllmSamplerOptions
from alignlab.models.load import save
from alignlab.runs import Run
from tests.cluster import toy
from tests.cluster.one_machine import ray_here
from tests.cluster.test_engines import FakeEngine, client, noted, wait_for_end
from tests.generation import fake_vllm
from tests.models.helpers import tiny_lm
from tests.recipes import kill_resume
from tests.recipes.small import SMALL
from tests.running import CommandLine

pytest.importorskip("ray", reason="the extra [ray] is not installed")

STUDY = (
    "compare_feedback",
    *(setting for setting in SMALL if "workers" not in setting),
    "branches=[random_judge]",
    "hardware.threads=1",
    "hardware.device=cpu",
)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with ray_here(3) as found:
        yield found


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = fake_vllm.fake_interpreter(tmp_path / "fake")
    monkeypatch.setenv(vllm_process.INTERPRETER, str(found))
    return found


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Two models of one shape."""
    return [str(save(tiny_lm(scale=k), tmp_path / f"m{k}")) for k in (1.0, 2.0)]


def done(session: Session, run: Run, *tasks: Any, library: str = "") -> dict[str, Any]:
    """Results of tasks that two engines share, by name."""
    found = {}

    def then(task: Any, result: bytes) -> list[Any]:
        found[task.name] = pickle.loads(result)
        return []

    text = library or f"vLLM {fake_vllm.VERSION}"
    layout = Layout(session.nodes(), engines=2, vllm=VllmSamplerOptions(), library=text)
    Tasks(session, run, layout).run(tasks, then)
    return found


def opened(python: Path) -> list[int]:
    return [one["pid"] for one in fake_vllm.noted(python.parent, "open")]


def test_actors_hold_a_vllm_each_for_all_models(
    session: Session, run: Run, python: Path, folders: list[str]
):
    texts = done(session, run, toy.task("a", toy.completed, run.scope("a"), folders, 12))["a"]
    assert len(texts) == 12
    assert len(set(texts)) == 2  # greedy, by two models in turn
    assert texts[:2] * 6 == texts
    pids = opened(python)
    assert 1 <= len(pids) <= 2  # none started again for another model
    for pid in pids:
        wait_for_end(pid)  # with its actor
    assert noted(run.path, "lost") == []


def test_a_chunk_whose_vllm_dies_is_asked_for_again(
    session: Session, run: Run, python: Path, folders: list[str]
):
    python.with_name("die").touch()
    texts = done(session, run, toy.task("a", toy.completed, run.scope("a"), folders, 12))["a"]
    assert texts[:2] * 6 == texts
    (lost,) = noted(run.path, "lost")
    assert lost["reason"] == "the engine is gone"
    assert "engine vllm: it has ended" in lost["detail"]
    lines = (run.path / "stages/a/01-work/counts.jsonl").read_text().splitlines()
    assert [json.loads(line)["kept"] for line in lines] == list(range(12))


def test_a_killed_actor_ends_its_vllm(session: Session, run: Run, python: Path, folders: list[str]):
    killed: list[int] = []

    def kill() -> None:
        """Kill an actor as soon as its vLLM has started."""
        while not opened(python):
            time.sleep(0.02)
        parent = Path(f"/proc/{opened(python)[0]}/stat").read_text().rsplit(")", 1)[1].split()[1]
        os.kill(int(parent), signal.SIGKILL)
        killed.append(opened(python)[0])

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    texts = done(session, run, toy.task("a", toy.completed, run.scope("a"), folders, 60))["a"]
    thread.join(10)
    wait_for_end(killed[0])
    assert texts[:2] * 30 == texts
    assert len(noted(run.path, "lost")) == 1


def test_a_node_without_the_same_vllm_is_refused(
    session: Session, run: Run, python: Path, folders: list[str]
):
    task = toy.task("a", toy.completed, run.scope("a"), folders, 2)
    with pytest.raises(BadInput, match=r"expected vLLM 9, found vLLM 0\.0-fake; install the same"):
        done(session, run, task, library="vLLM 9")


def test_a_task_without_engines_starts_vllm_itself_and_never_another_engine(
    run: Run, python: Path, folders: list[str], monkeypatch: pytest.MonkeyPatch
):
    alone = client(run, FakeEngine([]))
    monkeypatch.setattr(alone, "_take", lambda: None)
    with engine_pool.elsewhere(alone):
        assert len(toy.completed(run, folders, 2)) == 2
        assert len(opened(python)) == 1
        alone.stop()
        python.unlink()
        with pytest.raises(RunFailed, match="engine vllm: expected an interpreter with vLLM"):
            toy.completed(run.scope("b"), folders, 2)
    engine_pool.forget_model()


@pytest.mark.usefixtures("eight_cpus", "python")
def test_the_plan_shows_engines_by_vllm(alignlab: CommandLine):
    settings = ("hardware.engine=vllm?cache_gib=0.5", "hardware.device=cpu", "--rough")
    shown = alignlab("check", *STUDY, *settings, "hardware.cluster=auto", "--sample", "0")
    assert shown.code == 0, shown.err
    lines = [line.strip() for line in shown.out.splitlines()]
    (at,) = [i for i, line in enumerate(lines) if line.startswith("places")]
    assert lines[at + 1].startswith("1 engine (vLLM 0.0-fake) that sample and judge for them, ")
    assert any("sampling, vLLM: about 1.7 GB (" in line for line in lines)
    here = alignlab("check", *STUDY, *settings, "hardware.workers=1", "--sample", "0")
    assert here.code == 0, here.err
    assert "sampling, vLLM: about 1.7 GB (" in here.out
    refused = alignlab("check", *STUDY, "hardware.engine=vllm?gpus=2", "hardware.cluster=auto")
    assert refused.code == 2
    assert refused.line.endswith("setting hardware.engine: gpus=2 has no effect on CPUs")


@pytest.mark.heavy
def test_a_study_by_vllm_on_ray_equals_one_on_this_machine(
    session: Session, alignlab: CommandLine, python: Path, tmp_path: Path
):
    here, there = tmp_path / "here", tmp_path / "there"
    engine = "hardware.engine=vllm?cache_gib=0.1"
    alone = alignlab("run", *STUDY, "hardware.workers=1", engine, f"out={here}")
    assert alone.code == 0, alone.err
    placed = alignlab("run", *STUDY, "hardware.cluster=auto", "hardware.engines=2", engine,
                      f"out={there}")  # fmt: skip
    assert placed.code == 0, placed.err
    expected, found = kill_resume.contents(here), kill_resume.contents(there)
    assert kill_resume.differences(expected, found) == ()
    manifest = json.loads((there / "manifest.json").read_text())
    assert manifest["cluster"]["engine"] == "vLLM 0.0-fake"
    assert manifest["types"]["M0"] == "float32 on cpu by vLLM 0.0-fake"
    other = alignlab("run", *STUDY, "hardware.workers=1", f"out={here}")
    assert other.code == 2
    assert "hardware.engine='vllm'" in other.line


REAL = ("hardware.engine=vllm?cache_gib=0.3", "sample.max_tokens=8")


@pytest.mark.heavy
def test_a_study_by_vllm_loses_no_record_when_an_engine_is_killed(
    session: Session, alignlab: CommandLine, tmp_path: Path
):
    """One engine, which starts twice; the same study on this machine starts it once or twice."""
    if not os.environ.get(vllm_process.INTERPRETER):
        pytest.skip(f"no interpreter with vLLM (set {vllm_process.INTERPRETER})")
    here, there = tmp_path / "here", tmp_path / "there"
    alone = alignlab("run", *STUDY, *REAL, "hardware.workers=1", f"out={here}")
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
    placed = alignlab("run", *STUDY, *REAL, "hardware.cluster=auto", f"out={there}")
    assert placed.code == 0, placed.err
    thread.join(10)
    assert killed
    assert counted(there) == counted(here)
    assert len(noted(there, "engine")) == 2
    manifest = json.loads((there / "manifest.json").read_text())
    assert manifest["cluster"]["lost_attempts"] == len(noted(there, "lost")) <= 1
    assert "vLLM" in manifest["types"]["M0"]


def counted(out: Path) -> dict[str, int]:
    """Number of records in every file that samples and their judgements come to."""
    files = [f for f in (out / "stages").rglob("*.jsonl") if f.name in ("responses.jsonl",
             "feedback.jsonl")]  # fmt: skip
    assert len(files) > 3
    return {str(f.relative_to(out)): len(f.read_text().splitlines()) for f in files}
