from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import (
    NOTHING,
    Interval,
    _chunks,
    bootstrap_mean,
    bootstrap_ratio,
    percentile_interval,
    resample_counts,
    share_interval,
    tail,
    wilson,
)
from alignlab.seeds import generator


def width(interval: Interval) -> float:
    assert interval.high is not None
    assert interval.low is not None
    return interval.high - interval.low


def test_wilson_by_hand() -> None:
    # z = 1.959964; 8 of 10: centre (0.8 + z2/20) / (1 + z2/10), Wilson (1927)
    found = wilson(8, 10)
    assert found.value == 0.8
    assert found.low == pytest.approx(0.490162, abs=1e-6)
    assert found.high == pytest.approx(0.943318, abs=1e-6)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_symmetric_and_inside_zero_and_one(counts: tuple[int, int]) -> None:
    k, n = counts
    one, other = wilson(k, n), wilson(n - k, n)
    assert one.low == pytest.approx(1 - (other.high or 0))
    assert 0 <= (one.low or 0) <= k / n <= (one.high or 0) <= 1
    assert width(one) > 0


def test_wilson_refuses_nonsense() -> None:
    with pytest.raises(BadInput, match="got 11 of 10"):
        wilson(11, 10)
    assert wilson(0, 0) == NOTHING


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    values = generator("values").normal(2.0, 1.0, 900)
    found = bootstrap_mean(values, draws=4000)
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std(ddof=1) / 30
    assert width(found) / 2 == pytest.approx(half, rel=0.06)
    assert found.n == 900


def test_same_seed_same_interval_other_seed_another() -> None:
    values = [0.0, 1.0, 1.0, 0.5, 0.25] * 20
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_repeating_each_prompt_does_not_narrow_a_clustered_interval() -> None:
    values = list(generator("clusters").uniform(0, 1, 200))
    prompts = [f"p{i}" for i in range(200)]
    once = bootstrap_mean(values, prompts_N=prompts)
    thrice = bootstrap_mean(values * 3, prompts_N=prompts * 3)
    assert thrice.value == pytest.approx(once.value)
    assert width(thrice) == pytest.approx(width(once))
    assert thrice.n == 600
    assert width(bootstrap_mean(values * 3)) < 0.7 * width(once)


def test_resampling_seeds_widens_where_seeds_differ() -> None:
    rng = generator("seeds")
    values = np.concatenate([rng.normal(mean, 0.1, 100) for mean in (0.0, 1.0, 2.0)])
    prompts = list(range(100)) * 3
    seeds = [s for s in range(3) for _ in range(100)]
    fixed = bootstrap_mean(values, prompts_N=prompts)
    crossed = bootstrap_mean(values, prompts_N=prompts, seeds_N=seeds)
    assert crossed.value == fixed.value
    assert width(crossed) > 5 * width(fixed)


def test_ratio_is_the_sum_over_the_sum() -> None:
    found = bootstrap_ratio([1, 0, 3], [2, 0, 4])
    assert found.value == pytest.approx(4 / 6)
    assert found.n == 6
    assert bootstrap_ratio([0, 0], [0, 0]) == NOTHING
    assert bootstrap_mean([]) == NOTHING


def test_order_of_prompts_plays_no_part_in_the_value_and_little_in_the_bounds() -> None:
    values = generator("order").uniform(0, 1, 300)
    one, other = bootstrap_mean(values), bootstrap_mean(values[::-1])
    assert one.value == pytest.approx(other.value)
    assert width(one) == pytest.approx(width(other), rel=0.1)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30))
def test_bounds_hold_the_value_and_stay_in_range(values: list[float]) -> None:
    found = bootstrap_mean(values, draws=200)
    assert found.low is not None
    assert found.high is not None
    assert found.value is not None
    assert min(values) - 1e-9 <= found.low <= found.value <= found.high <= max(values) + 1e-9


def test_counts_sum_to_the_number_of_units() -> None:
    counts = resample_counts(7, 50, generator("counts"))
    assert counts.shape == (50, 7)
    assert (counts.sum(1) == 7).all()


def test_coverage_is_about_ninety_five_per_cent() -> None:
    hits = 0
    for trial in range(200):
        values = generator("coverage", trial).binomial(1, 0.6, 200)
        hits += bootstrap_mean(values, seed=trial, draws=400).covers(0.6)
    assert 0.90 <= hits / 200 <= 0.99


def test_one_prompt_has_no_interval() -> None:
    found = bootstrap_mean([1.0, 3.0], prompts_N=["a", "a"])
    assert (found.value, found.low, found.high, found.n) == (2.0, None, None, 2)


@pytest.mark.parametrize(
    ("prompts", "low", "high"),
    [
        # 3 of 4: variance 0.75 * 4/3 / 16, so 3 trials; Student's t of 3 is 3.182446.
        (None, 0.1306896, 0.9835703),
        # Totals -1/2 and 1/2: variance 0.5 * 2/1 / 16, 3 trials too; t of 1 is 12.706205.
        ("aabb", 0.0102735, 0.9988480),
        # Totals -1/2, 1/4, 1/4: variance 0.375 * 3/2 / 16; t of 2 is 4.302653.
        ("aabc", 0.1278557, 0.9839723),
    ],
)
def test_share_intervals_by_hand(prompts: str | None, low: float, high: float) -> None:
    found = share_interval([1.0, 0.0, 1.0, 1.0], prompts)
    assert (found.value, found.n) == (0.75, 4)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_shares_without_variance_have_wilsons_bounds_for_their_prompts() -> None:
    alike = share_interval([1.0] * 12, list("abcd") * 3)
    assert (alike.low, alike.high) == (wilson(4, 4).low, 1.0)
    one = share_interval([1.0, 0.0], "aa")
    assert (one.low, one.high, one.n) == (wilson(0.5, 1).low, wilson(0.5, 1).high, 2)


@pytest.mark.parametrize("values", [[-0.1, 0.5], [0.5, 1.1], [0.5, float("nan")]])
def test_a_share_is_of_values_from_zero_to_one(values: list[float]) -> None:
    with pytest.raises(BadInput, match=r"a share needs values in \[0, 1\]"):
        share_interval(values)


def test_bounds_hold_the_value_in_spite_of_rounding() -> None:
    above, below = 0.1 + 0.2, 0.3
    assert above > below
    found = percentile_interval(below, np.full(9, above), n=9, units=200)
    assert (found.low, found.high) == (below, above)
    found = percentile_interval(above, np.full(9, below), n=9, units=200)
    assert (found.low, found.high) == (below, above)


def test_an_interval_covers_its_bounds() -> None:
    found = Interval(0.5, 0.4, 0.6, 10)
    assert [found.covers(x) for x in (0.39, 0.4, 0.6, 0.61)] == [False, True, True, False]
    assert NOTHING.covers(3)


def test_units_of_several_prompts_weigh_by_what_they_bring() -> None:
    # Two prompts, 1 of 1 and 0 of 3: a quarter of all units, not half of the prompts.
    found = bootstrap_mean([1.0, 0.0, 0.0, 0.0], prompts_N="abbb")
    assert (found.value, found.n) == (0.25, 4)
    assert (found.low, found.high) == (0.0, 1.0)


def test_tails_by_hand() -> None:
    # The normal share beyond t(n - 1) * sqrt(n / (n - 1)): 12.7062 * 1.4142, 2.26216 * 1.05409.
    assert tail(1) == 0
    assert tail(2) == pytest.approx(0, abs=1e-12)
    assert tail(10) == pytest.approx(0.0085506, abs=1e-6)
    assert tail(99) == pytest.approx(0.0230451, abs=1e-6)
    assert tail(100) == pytest.approx(0.025)


def test_crossed_draws_are_of_prompts_and_seeds() -> None:
    values = generator("crossed").normal(size=(3, 10))
    found = bootstrap_mean(
        values.ravel(), prompts_N=list(range(10)) * 3, seeds_N=np.repeat([0, 1, 2], 10).tolist(),
        seed=2, draws=50,
    )  # fmt: skip
    rng = generator(2, "bootstrap")
    prompts_DP, seeds_DS = resample_counts(10, 50, rng), resample_counts(3, 50, rng)
    drawn = np.einsum("sp,dp,ds->d", values, prompts_DP, seeds_DS) / 30
    assert found.low == pytest.approx(np.quantile(drawn, tail(10)))
    assert found.high == pytest.approx(np.quantile(drawn, 1 - tail(10)))


def test_draws_are_split_by_memory_and_none_is_added() -> None:
    assert _chunks(10, 1_000_000) == [4, 4, 2]
    assert _chunks(3, 9_000_000) == [1, 1, 1]
    assert _chunks(10, 0) == [10]


def test_a_figure_or_draws_that_are_undefined_have_no_interval() -> None:
    assert percentile_interval(float("nan"), np.array([1.0, 2.0]), n=2, units=2) == NOTHING
    assert percentile_interval(1.0, np.array([np.nan]), n=2, units=2) == NOTHING
