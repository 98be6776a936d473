"""Trackers get the lines of metrics.jsonl: a real TensorBoard file, stand-ins for the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.training import tracking
from alignlab.training.config import TrainConfig
from alignlab.training.loop import train
from alignlab.training.tracking import PROJECT, log_to, require_tracker
from tests.models.helpers import random_groups, tiny_lm

CONFIG = TrainConfig(lr=1e-3, epochs=2, batch_size=4, log_every=2, save_every=0, warmup_ratio=0.3)


class Recorder:
    def __init__(self):
        self.lines = []

    def log(self, metrics, step):
        self.lines.append((step, dict(metrics)))


def test_a_tracker_gets_every_line_of_the_file(tmp_path):
    from alignlab.objectives.dpo import DPO

    recorder = Recorder()
    groups = random_groups(12, (2,))  # 3 steps an epoch: lines at steps 2, 4 and 6
    train(tiny_lm(), DPO(), groups, CONFIG, tmp_path, on_step=log_to(recorder, CONFIG))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [step for step, _ in recorder.lines] == [line["step"] for line in lines] == [2, 4, 6]
    for (_, told), line in zip(recorder.lines, lines, strict=True):
        known = {k: v for k, v in line.items() if k not in ("step", "epoch", "tokens")}
        assert told == pytest.approx(known)


def test_lines_are_told_at_the_last_step_too():
    recorder = Recorder()
    tell = log_to(recorder, CONFIG)
    for step in range(1, 6):
        tell({"loss": float(step)}, step, 5)
    assert [(step, told["loss"]) for step, told in recorder.lines] == [(2, 2.0), (4, 4.0), (5, 5.0)]


def test_tensorboard_reads_what_was_told(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra [track] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = {"lora": None, "lr": 0.1, "objective": "DPO(beta=0.1)"}
    with tracking.tracking("tensorboard", "M1 learns", tmp_path, told) as tracker:
        tracker.log({"loss": 0.5, "rewards/chosen": -1.0}, 10)
        tracker.log({"loss": 0.25}, 20)
    read = EventAccumulator(str(tmp_path / "tracking"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(10, 0.5), (20, 0.25)]
    assert [e.value for e in read.Scalars("rewards/chosen")] == [-1.0]


@pytest.mark.parametrize(
    ("track", "kind"), [("wandb", "WandBTracker"), ("trackio", "TrackioTracker")]
)
def test_the_others_are_accelerates_with_a_name_that_resumes(track, kind, tmp_path, monkeypatch):
    made = []

    class Stand:
        def __init__(self, project, **options):
            self.project, self.options, self.done = project, options, []
            made.append(self)

        def start(self):
            self.done.append("start")

        def store_init_configuration(self, values):
            self.done.append(values)

        def log(self, values, step):
            self.done.append((step, values))

        def finish(self):
            self.done.append("finish")

    monkeypatch.setattr(f"accelerate.tracking.{kind}", Stand)
    monkeypatch.setattr(tracking, "require_tracker", lambda track: None)
    for _ in range(2):
        with tracking.tracking(track, "M1 learns", tmp_path, {"lora": None, "lr": 1}) as tracker:
            tracker.log({"loss": 0.5}, 1)
    first, second = made
    assert first.project == PROJECT
    assert first.options == second.options
    assert first.options["name"] == "M1 learns"
    assert first.options["resume"] == "allow"
    assert first.done == ["start", {"lora": "None", "lr": 1}, (1, {"loss": 0.5}), "finish"]


def test_the_tracker_is_closed_when_the_training_fails(tmp_path, monkeypatch):
    class Failing(Exception):
        pass

    closed = []
    monkeypatch.setattr(tracking, "_made", lambda *_: _Stub(closed))
    monkeypatch.setattr(tracking, "require_tracker", lambda track: None)
    with pytest.raises(Failing), tracking.tracking("wandb", "x", tmp_path, {}):
        raise Failing
    assert closed == [True]


class _Stub:
    def __init__(self, closed):
        self.closed = closed

    def start(self):
        pass

    def store_init_configuration(self, values):
        pass

    def finish(self):
        self.closed.append(True)


def test_none_is_none_and_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch):
    with tracking.tracking("none", "x", tmp_path, {}) as tracker:
        assert tracker is None
    assert not (tmp_path / "tracking").exists()
    monkeypatch.setattr(tracking.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"wandb is not installed.*'alignlab\[track\]'"):
        require_tracker("wandb")
