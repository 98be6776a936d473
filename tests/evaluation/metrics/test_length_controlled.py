"""Length-controlled win rates: what can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.length_controlled import (
    GlmWeights,
    Preferences,
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
