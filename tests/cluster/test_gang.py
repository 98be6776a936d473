"""Tasks of two processes on one Ray: trainings shared, processes lost, errors, and refusals."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alignlab import progress
from alignlab.cluster import tasks as tasks_
from alignlab.cluster.placement import Layout
from alignlab.cluster.session import Session
from alignlab.cluster.tasks import Task, Tasks
from alignlab.commands.train import train
from alignlab.errors import BadInput
from alignlab.models.load import save
from alignlab.redo import events
from alignlab.runs import Run, RunIdentity
from tests.cluster import toy
from tests.cluster.one_machine import ray_here
from tests.models.helpers import tiny_lm
from tests.recipes.small import SMALL
from tests.running import CommandLine
from tests.training.test_distributed import assert_close
from tests.training.trainings import LONGS, ROLLOUTS, TRAININGS, Training, settings

pytest.importorskip("ray", reason="the extra [ray] is not installed")

STUDY = (
    "self_rewarding",
    *(setting for setting in SMALL if "workers" not in setting),
    "hardware.threads=1",
    "hardware.device=cpu",
)
FEW = (
    "corpus.demonstrations=8",
    "eft.limit=8",
    "corpus.test_prompts=4",
    "corpus.test_groups=4",
    "propose.n=6",
    "sample.max_tokens=8",
)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with ray_here(2) as found:
        yield found


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and data of unequal lengths in an odd number of groups."""
    folder = tmp_path_factory.mktemp("inputs")
    save(tiny_lm(scale=2.0), folder / "model")
    words = [chr(97 + i) * (3 + 7 * i % 23) for i in range(13)]
    pairs = [{"prompt": w, "chosen": w[:9] + "yes", "rejected": "no" + w} for w in words]
    said = [{"prompt": w, "completion": w[::-1]} for w in words]
    for name, rows in (("pairs", pairs), ("demonstrations", said)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(tasks_, "GRACE_S", 1.0)
    run = Run.start(tmp_path / "run", RunIdentity("toy", {}, (0,)))
    progress.use(progress.Silent())
    yield run
    progress.use(None)
    run.close()


def noted(run: Run, event: str) -> list[dict[str, Any]]:
    return [one for one in events(run.path) if one["event"] == event]


def done(session: Session, run: Run, *tasks: Task) -> dict[str, Any]:
    """Results of tasks of two processes each, by name."""
    found = {}

    def then(task: Task, result: bytes) -> list[Task]:
        found[task.name] = pickle.loads(result)
        return []

    Tasks(session, run, Layout(session.nodes(), threads=1, processes=2)).run(tasks, then)
    return found


def killing(run: Run, rank: int, due: Callable[[], bool]) -> threading.Thread:
    """Kill a process of the first attempt as soon as it is due."""

    def kill() -> None:
        while not (noted(run, "processes") and due()):
            time.sleep(0.02)
        os.kill(noted(run, "processes")[0]["processes"][rank]["pid"], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def wait_for_ends(run: Run) -> None:
    """Wait until no process of any attempt is left."""
    pids = [one["pid"] for event in noted(run, "processes") for one in event["processes"]]
    deadline = time.monotonic() + 30
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process lives on"
        time.sleep(0.1)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def lines_of(path: Path, name: str) -> list[str]:
    return [line for file in path.rglob(name) for line in file.read_text().splitlines()]


@pytest.mark.heavy
@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_process_costs_its_attempt_and_no_unit(session: Session, run: Run, rank: int):
    def due() -> bool:
        return len(lines_of(run.path, "counts.jsonl")) >= 2

    thread = killing(run, rank, due)
    part = toy.task("part", toy.units, run.scope("part"), 8, -1, 0.3)
    assert done(session, run, part) == {"part": list(range(8))}
    thread.join(10)
    written = lines_of(run.path / "stages/part/01-work", "counts.jsonl")
    assert [json.loads(line)["kept"] for line in written] == list(range(8))
    (lost,) = noted(run, "lost")
    assert lost["reason"] == ("one of its processes is gone" if rank else "its worker is gone")
    assert [one["attempt"] for one in noted(run, "processes")] == [1, 2]
    wait_for_ends(run)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_either_process_ends_the_run(session: Session, run: Run, rank: int):
    with pytest.raises(BadInput, match=f"^no rank {rank}$"):
        done(session, run, toy.task("a", toy.fail_on, rank))
    assert noted(run, "lost") == []
    assert len(noted(run, "task")) == 1
    wait_for_ends(run)


def alone(inputs: Path, out: Path, training: Training) -> None:
    model, data = str(inputs / "model"), str(inputs / training.data)
    train(training.objective, model=model, data=data, out=out, **settings(training))


def shared(name: str, inputs: Path, out: Path, training: Training, parallel: str) -> Task:
    model, data = str(inputs / "model"), str(inputs / training.data)
    more = settings(training) | {"parallel": parallel, "device": "cpu"}
    return toy.task(name, toy.train, training.objective, model, data, str(out), more)


@pytest.mark.heavy
def test_two_processes_train_as_one(session: Session, run: Run, inputs: Path, tmp_path: Path):
    wanted = {"dpo": TRAININGS["dpo"], "rloo": ROLLOUTS["rloo"]}
    parts = [("dpo", "data"), ("dpo", "fsdp"), ("rloo", "data")]
    tasks = [
        shared(f"{name}-{how}", inputs, tmp_path / f"{name}-{how}", wanted[name], how)
        for name, how in parts
    ]
    done(session, run, *tasks)  # each needs both CPUs: one after the other
    for name, training in wanted.items():
        alone(inputs, tmp_path / name, training)
    for name, how in parts:
        assert_close(tmp_path / name, tmp_path / f"{name}-{how}", 1e-5)
    assert [len(event["processes"]) for event in noted(run, "processes")] == [2, 2, 2]
    assert noted(run, "lost") == []
    wait_for_ends(run)


@pytest.mark.heavy
@pytest.mark.parametrize("rank", [0, 1])
def test_a_training_goes_on_after_a_process_was_killed(
    session: Session, run: Run, inputs: Path, tmp_path: Path, rank: int
):
    out, training = tmp_path / "killed", LONGS["dpo"]
    thread = killing(run, rank, lambda: len(lines_of(out, "metrics.jsonl")) >= 7)
    done(session, run, shared("dpo", inputs, out, training, "data"))
    thread.join(10)
    assert len(noted(run, "lost")) == 1
    assert '"resume"' in (out / "events.jsonl").read_text()
    alone(inputs, tmp_path / "one", training)
    assert_close(tmp_path / "one", out, 1e-5)
    wait_for_ends(run)


def test_several_processes_need_a_cluster(alignlab: CommandLine):
    ended = alignlab("check", *STUDY, "hardware.processes=2", "--sample", "0")
    assert ended.code == 2
    assert "setting hardware.processes: expected hardware.cluster with it" in ended.line
    assert "torchrun --nproc-per-node 2" in ended.line


@pytest.mark.slow
def test_too_few_cpus_are_refused_before_anything_is_written(
    session: Session, alignlab: CommandLine, tmp_path: Path
):
    out = tmp_path / "run"
    ended = alignlab("run", *STUDY, "hardware.cluster=auto", "hardware.processes=3", f"out={out}")
    assert ended.code == 2
    assert "hardware.processes: expected nodes with room for 3 processes (1 CPU, " in ended.line
    assert not out.exists()


@pytest.mark.usefixtures("eight_cpus")
def test_the_plan_shows_the_processes(alignlab: CommandLine):
    settings = ("hardware.cluster=auto", "hardware.processes=2", "hardware.parallel=fsdp")
    shown = alignlab("check", *STUDY, *settings, "--rough", "--sample", "0")
    assert shown.code == 0, shown.err
    lines = [line.strip() for line in shown.out.splitlines()]
    (at,) = [i for i, line in enumerate(lines) if line.startswith("places")]
    assert "1 task ready at a time, 2 processes of 1 CPU, " in lines[at]
    assert lines[at].endswith("GB each: 1 at once")
    assert lines[at + 1] == "this machine: 8 CPUs, 16.0 GB; 8 processes at once"


def counted(out: Path) -> dict[str, int]:
    """Number of records in each file of a run; reference values are named by their weights."""
    return {
        str((file.parent if file.parent.name == "reference" else file).relative_to(out)): len(
            file.read_text().splitlines()
        )
        for file in (out / "stages").rglob("*.jsonl")
    }


@pytest.mark.heavy
def test_a_study_has_the_records_of_one_process(
    session: Session, alignlab: CommandLine, tmp_path: Path
):
    """Weights differ by rounding, so that answers may; their numbers and all prompts may not."""
    one, two = tmp_path / "one", tmp_path / "two"
    for out, processes in ((one, "1"), (two, "2")):
        more = ("hardware.cluster=auto", f"hardware.processes={processes}", f"out={out}")
        ended = alignlab("run", *STUDY, *FEW, *more)
        assert ended.code == 0, ended.err
    expected, found = counted(one), counted(two)
    assert found == expected
    metrics = [name for name in expected if name.endswith("/metrics.jsonl")]
    assert metrics
    manifest = json.loads((two / "manifest.json").read_text())
    assert manifest["cluster"]["processes"] == 2
    assert manifest["cluster"]["lost_attempts"] == 0
