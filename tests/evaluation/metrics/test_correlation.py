from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.correlation import (
    kendall_interval,
    kendall_tau_b,
    spearman,
    spearman_interval,
)
from alignlab.evaluation.metrics.intervals import NOTHING, Interval, resample_counts, tail
from alignlab.seeds import generator

pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=40)


@given(pairs)
def test_both_agree_with_scipy(values: list[tuple[int, int]]) -> None:
    x, y = zip(*values, strict=True)
    rho, tau = spearman(x, y), kendall_tau_b(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert rho is None
        assert tau is None
        return
    assert rho == pytest.approx(spearmanr(x, y)[0], abs=1e-9)
    assert tau == pytest.approx(kendalltau(x, y)[0], abs=1e-9)


def test_extremes_and_symmetry() -> None:
    x = [1, 2, 3, 4]
    for measure in (spearman, kendall_tau_b):
        assert measure(x, x) == pytest.approx(1)
        assert measure(x, x[::-1]) == pytest.approx(-1)
        assert measure(x, [1, 3, 2, 4]) == pytest.approx(measure([1, 3, 2, 4], x))


@pytest.mark.parametrize(
    ("interval", "reference", "name"),
    [(spearman_interval, spearmanr, "spearman"), (kendall_interval, kendalltau, "kendall")],
)
def test_the_bootstrap_equals_resampling_the_lists(interval, reference, name) -> None:  # type: ignore[no-untyped-def]
    rng = generator("lists")
    prompts = np.repeat(np.arange(20), 4)
    y = rng.integers(0, 6, 80).astype(float)
    x = y + rng.normal(0, 2, 80).round()
    found = interval(x, y, prompts, seed=5, draws=60)
    drawn = []
    for counts in resample_counts(20, 60, generator(5, name)):
        index = np.repeat(np.arange(80), counts[prompts].astype(int))
        drawn.append(reference(x[index], y[index])[0])
    assert found.value == pytest.approx(reference(x, y)[0])
    assert found.low == pytest.approx(np.quantile(drawn, tail(20)))
    assert found.high == pytest.approx(np.quantile(drawn, 1 - tail(20)))
    assert found.n == 80


def test_one_large_cluster_does_not_overflow() -> None:
    rng = generator("large")
    x = rng.normal(size=1500)
    y = x + 0.1 * rng.normal(size=1500)
    found = kendall_interval(x, y, np.zeros(1500, dtype=np.int64), draws=3)
    assert found.value == pytest.approx(kendalltau(x, y)[0])
    assert (found.low, found.high) == (None, None)  # of one prompt nothing can be said


@pytest.mark.parametrize("interval", [spearman_interval, kendall_interval])
def test_a_thousand_draws_of_seed_0_unless_asked(interval) -> None:  # type: ignore[no-untyped-def]
    x, y = generator("defaults").normal(size=(2, 30))
    prompts = np.arange(30)
    assert interval(x, y, prompts) == interval(x, y, prompts, seed=0, draws=1000)


@pytest.mark.parametrize("interval", [spearman_interval, kendall_interval])
def test_constant_sides_and_draws_have_no_correlation(interval) -> None:  # type: ignore[no-untyped-def]
    prompts = np.arange(3)
    assert interval([1, 1, 1], [1, 2, 3], prompts) == NOTHING
    assert interval([1, 2, 3], [1, 1, 1], prompts) == NOTHING
    found = interval([1, 2, 3], [1, 2, 3], prompts)  # a ninth of the draws is one prompt thrice
    assert found == Interval(pytest.approx(1), None, None, 3)


@pytest.mark.parametrize("interval", [spearman_interval, kendall_interval])
def test_a_correlation_of_few_prompts_or_of_perfect_order_has_no_bounds(interval) -> None:  # type: ignore[no-untyped-def]
    """Every draw of two prompts, or of any number in perfect order, gives 1 or nothing."""
    x, y = generator("few").normal(size=(2, 10))
    for few in (2, 9):
        found = interval(x[:few], y[:few], np.arange(few))
        assert (found.low, found.high, found.n) == (None, None, few)
        assert found.value == pytest.approx(interval(x[:few], y[:few], np.zeros(few, int)).value)
    enough = interval(x, y, np.arange(10))
    assert enough.low < enough.value < enough.high
    # Ten responses to five prompts are five units.
    assert interval(x, y, np.arange(10) // 2).low is None
    assert interval(x, x, np.arange(10)) == Interval(pytest.approx(1), None, None, 10)


def test_what_is_no_number_has_no_rank() -> None:
    for correlation in (spearman, kendall_tau_b):
        with pytest.raises(BadInput, match="a rank correlation: expected numbers, found NaN"):
            correlation([1, math.nan, 3], [1, 2, 3])
