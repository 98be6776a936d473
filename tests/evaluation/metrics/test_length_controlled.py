"""Length-controlled win rates: what can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.length_controlled import (
    GlmWeights,
    Preferences,
    fit,
    predictions,
    standardised,
)


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
