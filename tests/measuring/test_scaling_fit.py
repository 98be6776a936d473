"""Scaling rows and points come from the scored answers of the models on a curve."""

from dataclasses import replace

import pytest

from alignlab.measuring.measure import HeldOut, StudyMeasurements, SweepAxis
from alignlab.measuring.scaling_fit import scaled
from alignlab.types import Unscored
from tests.stages.making import prompt, rated, responses


def study(scores, at, *, seed=0, series=None):
    """Every model has one score, on every prompt."""
    asked = [prompt(i) for i in range(12)]
    given = {m: [r for p in asked for r in responses(p, "text", by=m)] for m in scores}
    said = {m: [rated(r, scores[m]) for r in several] for m, several in given.items()}
    scale = SweepAxis("prompts", at, series or dict.fromkeys(at, "score"))
    return StudyMeasurements(
        seed, "M1", HeldOut(tuple(asked), ()), given, said, {}, (), {}, (), {}, scale=scale
    )  # fmt: skip


SCORES = {"M1": 1.0, "small": 2.0, "middle": 2.5, "large": 3.0}
AT = {"small": 100.0, "middle": 200.0, "large": 400.0}


def test_a_line_through_three_sizes():
    found = scaled([study(SCORES, AT)])
    rows = {r.metric: r for r in found.rows}
    assert rows["per_doubling"].value == pytest.approx(0.5)
    assert (rows["per_doubling"].model, rows["per_doubling"].n) == ("score", 36)
    assert rows["r_squared"].value == pytest.approx(1.0)
    assert rows["predicted_largest"].value == pytest.approx(3.0)
    assert rows["largest_minus_predicted"].value == pytest.approx(0.0)
    assert rows["largest_minus_predicted"].n == 12
    measured = [p for p in found.points if p.model]
    assert [(p.model, p.at, p.value, p.n) for p in measured] == [
        ("small", 100, 2.0, 12), ("middle", 200, 2.5, 12), ("large", 400, 3.0, 12),
    ]  # fmt: skip
    fitted = [p.value for p in found.points if not p.model]
    assert fitted == pytest.approx([2.0, 2.5, 3.0])


def test_every_curve_has_its_own_line():
    series = {"M1": "before", "small": "after", "middle": "before", "large": "after"}
    at = {"M1": 1.0, "small": 1.0, "middle": 2.0, "large": 2.0}
    rows = scaled([study(SCORES, at, series=series)]).rows
    slopes = {r.model: r.value for r in rows if r.metric == "per_doubling"}
    assert slopes == pytest.approx({"before": 1.5, "after": 1.0})


def test_seeds_that_disagree_widen_the_interval():
    other = study({**SCORES, "large": 4.0}, AT, seed=1)
    (row,) = [r for r in scaled([study(SCORES, AT), other]).rows if r.metric == "per_doubling"]
    assert row.value == pytest.approx(0.75)
    assert (row.low, row.high) == pytest.approx((0.5, 1.0))
    assert row.seeds == (0, 1)


def test_no_sweep_and_one_scored_size_give_nothing():
    one = study(SCORES, AT)
    assert scaled([replace(one, scale=None)]).rows == []
    lost = {
        m: said if m == "small" else [replace(f, verdict=Unscored("none")) for f in said]
        for m, said in one.scored.items()
    }
    assert scaled([replace(one, scored=lost)]).points == []
