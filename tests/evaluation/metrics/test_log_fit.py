"""A line in the logarithm of a size: by hand, exact lines, and intervals that narrow by pairing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.log_fit import log_fit
from alignlab.seeds import generator


def crossed(at_one, per_doubling, sizes, prompts=40, noise=0.0):
    """One value per prompt and size: the line, what is hard about the prompt, and noise."""
    rng = generator("log fit test")
    hard = rng.normal(0, 1.0, prompts)
    rows = [
        (at_one + per_doubling * np.log2(size) + hard[p] + noise * rng.normal(), size, p)
        for size in sizes
        for p in range(prompts)
    ]
    return zip(*rows, strict=True)


def test_by_hand():
    # Means 1, 2, 4 at log2 sizes 0, 1, 2: slope 1.5, line 5/6, 14/6, 23/6.
    fit = log_fit([1, 2, 4], [1, 2, 4], ["p", "p", "p"], draws=10)
    assert fit.per_doubling.value == pytest.approx(1.5)
    assert [i.value for i in fit.fitted] == pytest.approx([5 / 6, 14 / 6, 23 / 6])
    assert [i.value for i in fit.measured] == pytest.approx([1, 2, 4])
    assert fit.r_squared == pytest.approx(1 - (1 / 6) / (14 / 3))
    assert fit.sizes == (1, 2, 4)
    # The line through the first two goes on to 3.
    assert fit.predicted is not None
    assert fit.off is not None
    assert (fit.predicted.value, fit.off.value) == pytest.approx((3, 1))
    two = log_fit([1, 2], [1, 2], ["p", "p"], draws=10)
    assert two.predicted is two.off is None


@settings(max_examples=20, deadline=None)
@given(st.floats(-3, 3), st.floats(-2, 2))
def test_an_exact_line_is_found_without_spread_in_its_slope(at_one, per_doubling):
    values, sizes, prompts = crossed(at_one, per_doubling, (25, 100, 400), prompts=12)
    slope = log_fit(values, sizes, prompts, draws=50).per_doubling
    assert slope.value == pytest.approx(per_doubling, abs=1e-9)
    assert slope.low == pytest.approx(slope.high, abs=1e-9)  # the prompts' difficulty cancels


def test_noise_widens_and_the_truth_is_covered():
    values, sizes, prompts = crossed(3.0, 0.2, (50, 100, 200), prompts=200, noise=0.5)
    slope = log_fit(values, sizes, prompts, draws=500).per_doubling
    assert slope.low < 0.2 < slope.high
    assert 0.05 < slope.high - slope.low < 0.3


def test_training_seeds_are_resampled_too():
    values, sizes, prompts = map(list, crossed(3.0, 0.2, (1, 2), prompts=50, noise=0.1))
    moved = values + [v + (2.0 if s == 2 else 0.0) for v, s in zip(values, sizes, strict=True)]
    seeds = [0] * len(values) + [1] * len(values)
    both = log_fit(moved, sizes * 2, prompts * 2, seeds_N=seeds, draws=300).per_doubling
    one = log_fit(values, sizes, prompts, draws=300).per_doubling
    assert both.value == pytest.approx(one.value + 1.0)
    assert both.high - both.low > 1.9 > one.high - one.low


def test_reversed_sizes_flip_the_sign():
    values, sizes, prompts = map(list, crossed(3.0, 0.4, (1, 2, 4), noise=0.2))
    mirrored = log_fit(values, [4 / s for s in sizes], prompts, draws=10).per_doubling
    assert mirrored.value == pytest.approx(
        -log_fit(values, sizes, prompts, draws=10).per_doubling.value
    )


def test_no_r_squared_where_it_says_nothing():
    assert log_fit([1, 2], [1, 2], ["p", "p"], draws=5).r_squared is None
    assert log_fit([1, 1, 1], [1, 2, 4], ["p"] * 3, draws=5).r_squared is None


@pytest.mark.parametrize("sizes", [[1, 1], [0, 2], [-1, 2]])
def test_sizes_that_have_no_line_are_refused(sizes):
    with pytest.raises(BadInput, match="two or more sizes above 0"):
        log_fit([1, 2], sizes, ["p", "p"])


def test_lists_of_unlike_lengths_are_refused():
    with pytest.raises(BadInput, match="a size and a prompt"):
        log_fit([1, 2], [1, 2], ["p"])


def test_a_size_is_its_mean_over_what_was_scored() -> None:
    # At size 2 prompt b could not be scored, and a was under two seeds.
    values, sizes = [1.0, 3.0, 5.0, 6.0], [1, 1, 2, 2]
    found = log_fit(values, sizes, "abaa", seeds_N=[0, 0, 0, 1])
    assert [one.value for one in found.measured] == [2.0, 5.5]
    assert found.per_doubling.value == 3.5
    assert [one.n for one in found.measured] == [2, 2]
