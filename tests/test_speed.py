"""Speeds: linear in the work; branches take the next free process."""

from __future__ import annotations

import pytest

from alignlab.commands._support.measured_speed import line
from alignlab.plan import Time
from alignlab.speed import Compute, Speed, elapsed, from_throughput, seconds


def test_seconds_by_hand():
    work = Compute(read=100, step=10, draw=40, train=1000, update=2, load=3)
    speed = Speed(read=0.01, step=0.1, draw=0.02, train=0.005, update=0.5, load=2.0, cost=99.0)
    # 1 + 1 + 0.8 + 5 + 1 + 6; what the measurement cost is no part of the work.
    assert seconds(work, speed) == pytest.approx(14.8)
    assert seconds(work.times(3), speed) == pytest.approx(3 * 14.8)
    assert seconds(work + work, speed) == pytest.approx(2 * 14.8)
    assert seconds(Compute(), speed) == 0


def test_a_model_that_was_not_measured():
    speed = from_throughput(10**9, 100.0)
    # 2e9 operations at 1e11 a second, three times that with the backward pass.
    assert (speed.read, speed.train) == (pytest.approx(0.02), pytest.approx(0.06))
    assert not speed.measured
    # Weights move in the time of 80 and 600 tokens, plus fixed costs; 15 ns a parameter on disk.
    assert (speed.step, speed.update) == (pytest.approx(1.606), pytest.approx(12.02))
    assert speed.load == pytest.approx(15.1)
    # A thousandth is trained: no gradients of the other weights, no moments.
    adapted = from_throughput(10**9, 100.0, 10**6)
    assert (adapted.train, adapted.update) == (pytest.approx(0.04002), pytest.approx(0.032))
    assert (adapted.read, adapted.step, adapted.load) == (speed.read, speed.step, speed.load)


def test_a_rough_prediction_has_a_wider_range():
    assert str(Time(40.0, 80.0, "measured")) == "about 40 s (28 s to 52 s)"
    assert str(Time(40.0, 80.0, "rough", rough=True)) == "about 40 s (20 s to 80 s)"


@pytest.mark.parametrize(
    ("workers", "expected"),
    # 5 and 4 begin; 3 follows 4, 2 follows 5: 7 and 7.
    [(1, 14.0), (2, 7.0), (3, 5.0), (4, 5.0), (9, 5.0)],
)
def test_branches_take_the_next_free_process(workers: int, expected: float):
    branches = {"a": 5.0, "b": 4.0, "c": 3.0, "d": 2.0}
    assert elapsed(branches, list(branches), workers) == expected


def test_no_branches_take_no_time():
    assert elapsed({}, [], 2) == 0


def test_a_line_through_two_points():
    assert line(8, 1.0, 64, 2.0) == (pytest.approx(1 - 8 / 56), pytest.approx(1 / 56))
    # Noise never makes more rows cheaper, or a step of no rows negative.
    assert line(8, 3.0, 64, 2.0) == (2.0, 0.0)
    assert line(8, 0.1, 64, 2.0)[0] == 0.0
