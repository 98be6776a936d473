"""Speeds are measured once for each machine, model and type, and kept."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from alignlab.commands._support import measured_speed
from alignlab.commands._support.measured_speed import PlannedModel, SampleTexts, cache_file, speeds
from alignlab.context import Hardware, RunContext
from alignlab.recording import STUDENT
from alignlab.runs import Run
from alignlab.sandbox import checkpoint_path
from alignlab.training.config import TrainConfig

EXAMPLES = [("What is the colour of the sky?", "The sky is blue.")] * 4


@pytest.fixture
def context(tmp_path, monkeypatch) -> RunContext:
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path / "cache"))
    return RunContext(Run(tmp_path), 0, Hardware(device="cpu", threads=1))


@pytest.fixture
def models() -> dict[PlannedModel, SampleTexts]:
    asked = PlannedModel(STUDENT, str(checkpoint_path("knows_all")))
    return {asked: SampleTexts(EXAMPLES, TrainConfig())}


def test_a_speed_is_measured_once_and_kept(context, models, monkeypatch):
    # Every look at the clock is a second later than the last one.
    monkeypatch.setattr(measured_speed, "_clock", lambda *_: map(float, count()).__next__)
    (first,) = speeds(models, context, 1, measure=True).values()
    assert first.measured
    assert first.load == 1.0
    # One second for all batches of decoding: none for each further step or row.
    assert (first.step, first.draw) == (0.0, 0.0)
    assert 0 < first.read < 0.01
    # One second for a step of one group as for all: all of it is the optimiser's.
    assert (first.train, first.update) == (0.0, 1.0)
    monkeypatch.setattr(measured_speed, "_measured", lambda *_: pytest.fail("measured again"))
    assert speeds(models, context, 1, measure=True) == {next(iter(models)): first}


def test_other_settings_are_measured_anew(context, models, monkeypatch):
    made = []
    monkeypatch.setattr(
        measured_speed, "_measured", lambda *a: made.append(a) or measured_speed.Speed()
    )
    (asked,) = models
    half = {asked: SampleTexts(EXAMPLES, TrainConfig(dtype="bfloat16"))}
    never = {asked: SampleTexts(EXAMPLES, None)}
    for each in (models, half, never, models):
        speeds(each, context, 1, measure=True)
    assert len(made) == 3


def test_without_measuring_nothing_is_loaded_or_written(context, models, monkeypatch):
    monkeypatch.setattr(measured_speed, "_measured", lambda *_: pytest.fail("measured"))
    known = {"float32": 10.0, "bfloat16": 40.0}
    monkeypatch.setattr(measured_speed, "throughput", lambda: known)
    (rough,) = speeds(models, context, 1, measure=False).values()
    assert not rough.measured
    # 908,928 parameters, of which the last norm's 128 are no matrix.
    assert rough.read == pytest.approx(2 * 908_800 / 10e9)
    (three,) = speeds(models, context, 3, measure=False).values()
    assert three.read == pytest.approx(rough.read / 3)
    # Models of this size are float32 where the type is not set.
    half = replace(context, hardware=Hardware(device="cpu", dtype="bfloat16"))
    (fast,) = speeds(models, half, 1, measure=False).values()
    assert fast.read == pytest.approx(rough.read / 4)
    assert not cache_file().exists()


def test_a_model_that_does_not_fit_is_not_loaded(context, models, monkeypatch):
    monkeypatch.setattr(measured_speed, "_measured", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(measured_speed.machine, "free_memory", lambda: 2e9)
    (rough,) = speeds(models, context, 1, measure=True).values()
    assert not rough.measured
