from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control

from alignlab.errors import BadInput
from alignlab.evaluation.metrics import significance
from alignlab.evaluation.metrics.multiple import benjamini_hochberg, holm
from alignlab.evaluation.metrics.power import (
    Design,
    crossed_error,
    detectable,
    paired_spread,
    prompts_needed,
    win_spread,
)
from alignlab.evaluation.metrics.significance import difference, sign_flip_p
from alignlab.seeds import generator


def test_all_sign_patterns_by_hand() -> None:
    assert sign_flip_p([0.5] * 5) == 2 / 32
    # |sum| >= 4 of +-1 +-2 +-3: 123, 1-23 reversed ... patterns with |sum| 6 or 4: 4 of 8.
    assert sign_flip_p([-1, 2, 3]) == 4 / 8
    assert sign_flip_p([0.0, 0.0]) == 1
    assert sign_flip_p([]) == 1


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 5))
def test_outcomes_give_the_sign_test(wins: int, losses: int, ties: int) -> None:
    values = [0.5] * wins + [-0.5] * losses + [0.0] * ties
    p = sign_flip_p(values, draws=2000)
    if wins + losses:
        known = binomtest(wins, wins + losses).pvalue
        exact = wins + losses <= 13
        assert p == pytest.approx(known, abs=1e-9 if exact else 0.06)


def test_drawn_patterns_agree_with_the_binomial_and_are_never_zero() -> None:
    values = [0.5] * 60 + [-0.5] * 40
    known = binomtest(60, 100).pvalue
    assert sign_flip_p(values, draws=20_000) == pytest.approx(known, abs=0.005)
    assert sign_flip_p([1.0] * 200, draws=999) == 1 / 1000


def test_a_prompts_values_change_sign_together() -> None:
    once = [1.0, 1.0, 1.0, -1.0, 1.0, 1.0]
    assert sign_flip_p(once * 3, prompts_N=list(range(6)) * 3) == sign_flip_p(once)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=10))
def test_swapping_models_changes_the_sign_alone(apart: list[float]) -> None:
    zeros = [0.0] * len(apart)
    one, other = difference(apart, zeros), difference(zeros, apart)
    assert one.p == other.p
    assert one.interval.value == pytest.approx(-(other.interval.value or 0))
    assert one.prompts == len(apart)


def test_pairing_finds_what_two_separate_intervals_hide() -> None:
    rng = generator("pairs")
    hard = rng.normal(0, 3, 200)
    first, second = hard + 0.3 + rng.normal(0, 0.5, 200), hard + rng.normal(0, 0.5, 200)
    found = difference(first, second)
    assert found.p is not None
    assert found.p < 0.001
    assert found.interval.low is not None
    assert found.interval.low > 0


def test_bad_differences() -> None:
    with pytest.raises(BadInput, match="two lists of one length"):
        difference([1.0], [1.0, 2.0])
    assert difference([], []).p is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert list(holm([])) == []
    for wrong in ([1.2], [-0.2], [[0.5]]):
        with pytest.raises(BadInput, match="from 0 to 1"):
            holm(wrong)


ps = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(ps)
def test_adjusted_values_are_larger_and_keep_the_order(values: list[float]) -> None:
    for adjusted in (holm(values), benjamini_hochberg(values)):
        assert (adjusted >= np.array(values) - 1e-12).all()
        assert (adjusted <= 1).all()
        order = np.argsort(values, kind="stable")
        assert (np.diff(adjusted[order]) >= -1e-12).all()
    assert (holm(values) >= benjamini_hochberg(values) - 1e-12).all()


@given(ps)
def test_benjamini_hochberg_equals_scipy(values: list[float]) -> None:
    assert benjamini_hochberg(values) == pytest.approx(false_discovery_control(values))


def test_holm_keeps_the_error_of_a_table() -> None:
    drawn = generator("nulls").uniform(size=(4000, 8))
    wrong = np.mean([holm(row).min() <= 0.05 for row in drawn])
    assert wrong == pytest.approx(0.05, abs=0.012)
    assert np.mean((drawn <= 0.05).any(axis=1)) > 0.3


def test_detectable_differences_by_hand() -> None:
    # (1.959964 + 0.841621) * 0.5 / sqrt(196)
    assert detectable(196, win_spread()) == pytest.approx(0.10006, abs=1e-5)
    assert prompts_needed(0.1, win_spread()) == 197
    assert prompts_needed(1.0, 0.1) == 1
    assert (detectable(5, 0.0), prompts_needed(0.1, 0.0), paired_spread(0.0)) == (0, 1, 0)
    assert (paired_spread(1.0, 1.0), paired_spread(1.0, -1.0), win_spread(1.0)) == (0, 2, 0)
    assert win_spread(0.36) == pytest.approx(0.4)
    assert paired_spread(1.0) == pytest.approx(math.sqrt(2))
    assert paired_spread(2.0, 0.5) == pytest.approx(2.0)
    assert detectable(100, 1.0, Design(level=0.01)) > detectable(100, 1.0)


@given(st.floats(0.01, 1), st.floats(0.1, 3))
def test_needed_prompts_find_the_difference(apart: float, spread: float) -> None:
    n = prompts_needed(apart, spread)
    assert detectable(n, spread) <= apart * (1 + 1e-9)
    if n > 1:
        assert detectable(n - 1, spread) > apart * (1 - 1e-6)


def test_the_promised_power_is_had() -> None:
    n = 120
    apart = detectable(n, win_spread())
    rng = generator("power")
    wins = rng.binomial(n, 0.5 + apart, 3000)
    z = np.abs(wins / n - 0.5) / (0.5 / math.sqrt(n))
    assert np.mean(z > 1.96) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: detectable(0, 1.0),
        lambda: detectable(5, -1.0),
        lambda: prompts_needed(0.0, 1.0),
        lambda: win_spread(1.5),
        lambda: paired_spread(1.0, 2.0),
        lambda: Design(power=1.0),
        lambda: Design(power=0.0),
        lambda: Design(power=-0.2),
        lambda: Design(level=0.0),
        lambda: Design(level=-0.2),
        lambda: Design(level=1.0),
    ],
)
def test_nonsense_is_refused(ask) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput):
        ask()


def test_seed_0_decides_unless_asked() -> None:
    first, second = generator("defaults").normal(size=(2, 40))
    assert difference(first, second) == difference(first, second, seed=0)
    assert difference(first, second) != difference(first, second, seed=1)
    assert sign_flip_p(first) == sign_flip_p(first, seed=0, draws=10_000)


def test_memory_bounds_change_no_p_value(monkeypatch: pytest.MonkeyPatch) -> None:
    values = generator("chunks").normal(0.2, 1, 40)
    whole = sign_flip_p(values, draws=500)
    monkeypatch.setattr(significance, "_ROWS", 10)
    assert sign_flip_p(values, draws=500) == pytest.approx(whole, abs=0.06)


def test_errors_over_prompts_and_seeds_by_hand() -> None:
    """Means by prompt 0, 2 (variance 2, of 2), by seed 0, 2 (the same): sqrt(1 + 1)."""
    assert crossed_error(np.array([[-1.0, 1.0], [1.0, 3.0]])) == pytest.approx(math.sqrt(2))
    assert crossed_error(np.array([[0.0, 2.0]])) == pytest.approx(1.0)
    # Without the value of prompt 1 by seed 1: means by prompt 0, 1, by seed 0, 1.
    assert crossed_error(np.array([[-1.0, 1.0], [1.0, np.nan]])) == pytest.approx(
        math.sqrt(0.5 / 2 + 0.5 / 2)
    )
    with pytest.raises(BadInput, match="2 prompts or more, found 1"):
        crossed_error(np.array([[1.0], [2.0]]))


def test_a_difference_needs_as_many_prompts_as_it_is_detectable_with() -> None:
    assert [prompts_needed(detectable(n, 0.7), 0.7) for n in range(1, 300)] == list(range(1, 300))


def test_a_value_that_is_no_number_is_refused() -> None:
    for found in (lambda: sign_flip_p([1, math.nan]), lambda: difference([math.nan, 1], [0, 0])):
        with pytest.raises(BadInput, match="a paired difference: expected numbers, found NaN"):
            found()
