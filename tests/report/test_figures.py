from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlab.report import labels
from alignlab.report.axis import MARGIN, axis
from alignlab.report.calibration_plot import binned, panels
from alignlab.report.line_chart import MAX_POINTS, curve
from alignlab.types import Audit, EvalResult


def test_axis_has_round_ticks_around_the_values() -> None:
    scale = axis([0.31, 0.667])
    assert scale.ticks == (0.3, 0.4, 0.5, 0.6, 0.7)
    assert scale.at(0.3) == MARGIN
    assert scale.at(0.7) == 100 - MARGIN
    assert scale.at(0.5) == pytest.approx(50)


def test_axis_of_shares_stays_within_zero_and_one() -> None:
    assert axis([0.02, 0.999], within=(0, 1)).ticks == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_axis_holds_every_value(values: list[float]) -> None:
    scale = axis(values)
    assert scale.low < scale.high
    assert len(scale.ticks) <= 12
    slack = 1e-6 * (scale.high - scale.low)
    assert scale.low - slack <= min(values)
    assert max(values) <= scale.high + slack


def test_bins_are_the_rewards_where_there_are_few() -> None:
    points = binned([(1.0, 2.0), (1.0, 4.0), (3.0, 5.0)])
    assert [(p.x, p.y) for p in points] == [(1.0, 3.0), (3.0, 5.0)]
    assert points[0].low == pytest.approx(3 - 1.96)  # the deviation of 2 and 4 is sqrt 2
    assert points[1].low is None


def test_bins_are_equal_parts_where_there_are_many() -> None:
    points = binned([(i / 7, float(i)) for i in range(100)])
    assert len(points) == 10
    assert points[0].y == pytest.approx(4.5)
    assert points[9].y == pytest.approx(94.5)


def test_unscored_rewards_are_counted_and_left_out() -> None:
    audits = [Audit("a", "M1", "j", None, 5.0), Audit("b", "M1", "j", 1.0, 2.0)]
    (panel,) = panels(audits)
    assert panel.note == "n = 1, 1 unscored"
    assert panels([audits[0]]) == ()


def test_curves_are_thinned_and_keep_their_ends() -> None:
    steps = [{"step": float(i), "loss": 1.0 / (i + 1)} for i in range(1000)]
    points = curve(steps, "loss")
    assert len(points) <= MAX_POINTS + 1
    assert (points[0].x, points[-1].x) == (0.0, 999.0)
    assert curve(steps, "rewards/margins") == []


def test_figures_in_words() -> None:
    assert labels.number(0.5634, "win_rate") == "56.3%"
    assert labels.number(-0.0185, "spearman") == "−0.018"
    assert labels.number(3.776, "mean") == "3.78"
    assert labels.number(None, "mean") == "–"
    assert labels.number(1234.4, "tokens") == "1,234"
    row = EvalResult("m", "b", "win_rate", 0.5, 0.25, 0.75, 4)
    assert labels.bounds(row) == "25.0 to 75.0%"
    assert labels.group("type:open") == "open-ended"
    assert labels.group("family:two_facts") == "two facts"
    assert [labels.duration(s) for s in (4.21, 59, 61, 3660)] == [
        "4.2 s", "59 s", "1 min 01 s", "1 h 01 min",
    ]  # fmt: skip
