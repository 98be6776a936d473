"""Style control: features, their scale, the ridge, and prompts that stay together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from alignlab.evaluation.metrics.intervals import resample_counts, tail
from alignlab.evaluation.metrics.style_control import (
    RIDGE,
    Battle,
    StyleControlled,
    _fit,
    _standardised,
    style_controlled,
    style_F,
)
from alignlab.seeds import generator


def test_features_by_hand() -> None:
    text = "# Head\n\nSome **bold** and __more__ words\n- one\n2. two\nno - list"
    assert style_F(text).tolist()[1:] == [1, 2, 2]
    assert style_F("") == pytest.approx([0, 0, 0, 0])


def test_differences_are_over_their_sum_and_their_deviation() -> None:
    own, other = (np.array(x, float) for x in ([2, 0, 0, 1], [1, 0, 0, 1]))
    longer, shorter = (np.array(x, float) for x in ([30, 0, 0, 1], [10, 0, 0, 1]))
    # 1/3 and 1/2 with deviation 1/12; features that do not vary stay 0.
    found = _standardised([(own, other), (longer, shorter)])
    assert found == pytest.approx(np.array([[4, 0, 0, 0], [6, 0, 0, 0]]))
    # What neither has is no difference: 1 and 0, with deviation 1/2.
    bare, headed = np.array([1.0, 0, 0, 0]), np.array([1.0, 1, 0, 0])
    assert _standardised([(headed, bare), (bare, bare)])[:, 1].tolist() == [2, 0]


def test_the_ridge_keeps_a_model_that_wins_everything_finite() -> None:
    found = style_controlled([Battle("m", str(i), "same", "same", 1.0) for i in range(10)])
    # Stationary point of the penalised likelihood: 10 (1 - sigma(x)) = RIDGE x.
    strength = brentq(lambda x: 10 * (1 - expit(x)) - RIDGE * x, 0, 50)
    assert found.win_rates["m"].value == pytest.approx(expit(strength), abs=1e-6)
    assert found.weights == pytest.approx(dict.fromkeys(found.weights, 0.0))
    assert style_controlled([]) == StyleControlled({}, {})


def test_a_models_interval_rests_on_its_own_prompts() -> None:
    battles = [Battle("a", str(i), "same", "same", float(i % 2)) for i in range(20)]
    found = style_controlled([*battles, Battle("b", "0", "same", "same", 1.0)])
    assert found.win_rates["a"].low is not None
    assert (found.win_rates["b"].low, found.win_rates["b"].n) == (None, 1)


def test_battles_of_one_prompt_stay_together() -> None:
    def width(copies: int) -> float:
        rate = style_controlled(
            [
                Battle("m", str(i), "same", "same", float(i % 2))
                for i in range(41)
                for _ in range(copies)
            ]
        ).win_rates["m"]
        return (rate.high or 0) - (rate.low or 0)

    assert width(4) == pytest.approx(width(1), rel=0.03)


def test_bounds_are_those_of_fits_to_resampled_prompts() -> None:
    """Without style there is one unknown: the sum of c (v - sigma(x)) is RIDGE x."""
    values = generator("battles").uniform(size=20)
    battles = [Battle("m", str(i), "same", "same", value) for i, value in enumerate(values)]
    found = style_controlled(battles, seed=4).win_rates["m"]
    rates = [
        expit(brentq(lambda x, c=c: (c * (values - expit(x))).sum() - RIDGE * x, -50, 50))
        for c in resample_counts(20, 200, generator(4, "style"))
    ]
    assert found.low == pytest.approx(np.quantile(rates, tail(20)), abs=1e-7)
    assert found.high == pytest.approx(np.quantile(rates, 1 - tail(20)), abs=1e-7)
    assert style_controlled(battles) == style_controlled(battles, seed=0)


def test_heavy_prompts_are_fitted_too() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0])
    (found,) = _fit(np.ones((4, 1)), values, np.full(4, 100.0))
    wanted = brentq(lambda x: 100 * (values - expit(x)).sum() - RIDGE * x, -9, 9)
    assert found == pytest.approx(wanted, abs=1e-9)


def test_an_equal_difference_of_all_pairs_is_no_style() -> None:
    """Differences of 1/3 have a std of 5e-17, by rounding."""
    own, other = np.array([2.0, 0, 0, 0]), np.array([1.0, 0, 0, 0])
    assert not _standardised([(own, other)] * 7).any()
