"""Length-controlled win rates: what can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.length_controlled import (
    GlmWeights,
    Preferences,
    _between,
    _minimise,
    _quadratic_minimum,
    _Rows,
    fit,
    predictions,
    standardised,
)
from alignlab.seeds import generator


def test_length_differences_are_over_the_sample_deviation() -> None:
    assert standardised(np.array([1.0, 2.0, 3.0])) == pytest.approx([1, 2, 3])
    assert standardised(np.array([-2.0, 2.0])) == pytest.approx([-(0.5**0.5), 0.5**0.5])
    assert standardised(np.array([5.0, 5.0])) == pytest.approx([0, 0])
    assert standardised(np.array([5.0])) == pytest.approx([0])


def test_predictions_leave_length_out() -> None:
    found = predictions(GlmWeights(0.0, 9.0, 2.0), np.array([0.0, np.log(3) / 2]))
    assert found == pytest.approx([0.5, 0.75])


def preferences(n: int, *, by_length: float, quality: float) -> Preferences:
    length = np.linspace(-2, 2, n)
    chance = 1 / (1 + np.exp(-(quality + by_length * np.tanh(length))))
    return Preferences(chance, length, np.zeros(n))


def test_what_length_explains_is_taken_out() -> None:
    gamed = preferences(400, by_length=2.0, quality=0.0)
    found = fit(preferences(400, by_length=2.0, quality=1.0), gamed)
    # The penalty of one per unit of weight is small against 400 preferences.
    assert (found.bias, found.length) == pytest.approx((1.0, 2.0), abs=0.1)
    assert found.difficulty == 0


def test_gamed_baselines_weigh_a_tenth() -> None:
    """Own and gamed preferences that contradict each other: the weighted mean decides."""
    own, gamed = (preferences(400, by_length=slope, quality=0.0) for slope in (2.0, -2.0))
    # Weighted by 1 and 0.1, 10 of 11 parts of the preferences are the model's own.
    assert fit(own, gamed).length > 1
    assert fit(gamed, own).length < -1


def test_fewer_preferences_than_folds_are_refused() -> None:
    few = preferences(4, by_length=1.0, quality=0.0)
    with pytest.raises(BadInput, match="expected at least 5 preferences, found 4"):
        fit(few, few)


def test_newtons_derivatives_are_those_of_the_loss() -> None:
    rng = generator("derivatives")
    rows = _Rows(rng.normal(size=(3, 20)), rng.uniform(size=20), rng.uniform(size=20))
    theta, small = np.array([0.3, -0.7, 1.1]), 1e-6
    slope, bend = rows.derivatives(rows.at(tuple(theta)))
    for i, step in enumerate(small * np.eye(3)):
        after, before = (rows.at(tuple(theta + sign * step)) for sign in (1, -1))
        assert slope[i] == pytest.approx((after.loss - before.loss) / (2 * small), abs=1e-6)
        apart = np.subtract(rows.derivatives(after)[0], rows.derivatives(before)[0])
        assert bend[i] == pytest.approx(apart / (2 * small), abs=1e-6)


def test_a_point_between_two_by_hand() -> None:
    assert _between((0.0, 1.0, -2.0), (2.0, 1.0, 6.0), 0.25) == (0.5, 1.0, 0.0)
    assert _between((0.0, 1.0, -2.0), (2.0, 1.0, 6.0), 1.0) == (2.0, 1.0, 6.0)


def test_a_quadratic_with_a_penalty_by_hand() -> None:
    """|x| + 2 (x - 3)^2 is least at 2.75; a slope of less than 1 leaves 0."""
    bend = [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]
    found = _quadratic_minimum((0.0, 0.0, 0.0), 1.0, [-12.0, 0.5, 12.0], bend)
    assert found == pytest.approx((2.75, 0.0, -2.75))


@pytest.mark.parametrize("start", [(0.0, 0.0, 0.0), (9.0, -9.0, 9.0), (-30.0, 30.0, -30.0)])
def test_the_minimum_is_one_wherever_the_search_begins(start) -> None:
    """Newton's full step overshoots far from the minimum, where the line search halves it."""
    rng = generator("minimum")
    rows = _Rows(rng.normal(size=(3, 60)) * 3, rng.uniform(size=60), np.ones(60))
    near = _minimise(rows, 1.0, rows.at((0.0, 0.0, 0.0)))
    found = _minimise(rows, 1.0, rows.at(start))
    assert found.theta == pytest.approx(near.theta, abs=1e-4)

    def value(theta) -> float:
        return sum(map(abs, theta)) + rows.at(tuple(theta)).loss

    for step in 0.01 * np.vstack([np.eye(3), -np.eye(3)]):
        assert value(found.theta) < value(np.array(found.theta) + step)
