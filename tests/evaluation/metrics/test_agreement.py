from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.agreement import (
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    raw_agreement,
)
from alignlab.evaluation.metrics.intervals import NOTHING

GAP = np.nan
# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": 4 annotators, 12 units.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3],
        [GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP],
    ]
).T
# Fleiss (1971)'s kind of example: 10 items, 14 annotators, 5 categories.
COUNTS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


@pytest.mark.parametrize(
    ("level", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_as_published(level, value) -> None:  # type: ignore[no-untyped-def]
    found = krippendorff_alpha(PUBLISHED, level=level)
    assert found.value == pytest.approx(value, abs=6e-4)
    assert found.n == 11  # the last unit has one rating


def test_fleiss_by_hand() -> None:
    ratings = [[c for c, k in enumerate(row) for _ in range(k)] for row in COUNTS]
    assert fleiss_kappa(ratings).value == pytest.approx(0.2099, abs=1e-4)
    with pytest.raises(BadInput, match="alpha takes gaps"):
        fleiss_kappa([[1.0, GAP]])


def test_cohen_by_hand() -> None:
    # 20 yes-yes, 15 no-no, 5 and 10 apart: observed 0.7, expected 0.5.
    first = [1] * 25 + [0] * 25
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohen_kappa(first, second).value == pytest.approx(0.4)
    assert cohen_kappa(first, first).value == 1
    assert cohen_kappa([1, 1], [1, 1]) == NOTHING
    with pytest.raises(BadInput, match="two lists of one length"):
        cohen_kappa([1, 1], [1])


lists = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=40)


@settings(max_examples=30, deadline=None)
@given(lists, st.sampled_from(["none", "linear", "quadratic"]))
def test_cohen_equals_scikit_learn(pairs, weights) -> None:  # type: ignore[no-untyped-def]
    first, second = (list(side) for side in zip(*pairs, strict=True))
    found = cohen_kappa(first, second, weights=weights)
    # scikit-learn warns and gives NaN where all ratings are equal.
    if len(set(first + second)) > 1:
        known = cohen_kappa_score(first, second, weights=None if weights == "none" else weights)
        assert found.value == pytest.approx(known, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(lists)
def test_exchanging_annotators_changes_nothing(pairs) -> None:  # type: ignore[no-untyped-def]
    ratings = np.array(pairs, dtype=float)
    for measure in (krippendorff_alpha, fleiss_kappa, raw_agreement):
        one, other = measure(ratings), measure(ratings[:, ::-1])
        assert one.value == pytest.approx(other.value)


def test_alpha_is_one_minus_disagreement_over_chance() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    chance = krippendorff_alpha(rng.integers(0, 3, size=(2000, 2)))
    assert chance.covers(0)
    assert abs(chance.value or 1) < 0.05
    assert krippendorff_alpha(np.array([[0, 1], [1, 0]] * 20)).value < 0  # type: ignore[operator]


def test_items_of_one_prompt_stay_together() -> None:
    rng = np.random.Generator(np.random.Philox(2))
    first = rng.integers(0, 2, 60)
    second = np.where(rng.random(60) < 0.8, first, 1 - first)
    once = cohen_kappa(first, second)
    thrice = cohen_kappa(np.tile(first, 3), np.tile(second, 3), prompts_N=list(range(60)) * 3)
    assert (thrice.value, thrice.n) == (pytest.approx(once.value), 180)
    assert thrice.low == pytest.approx(once.low)
    assert thrice.high == pytest.approx(once.high)


def test_nothing_rated_twice() -> None:
    assert krippendorff_alpha([[1.0, GAP], [GAP, 2.0]]) == NOTHING
    with pytest.raises(BadInput, match="items x annotators"):
        krippendorff_alpha([[1.0], [2.0]])


def test_items_rated_once_are_no_units_of_the_bootstrap() -> None:
    rated = [[1, 1], [1, 2], [2, 2], [2, 1], [1, 1]]
    single = [[1, np.nan], [np.nan, 2]] * 10
    for measure in (raw_agreement, krippendorff_alpha):
        assert measure([*rated, *single]) == measure(rated)


def test_kappa_leaves_out_what_either_did_not_rate() -> None:
    first, second = [1.0, 2.0, 1.0, 2.0, 1.0], [1.0, 2.0, 2.0, 2.0, 1.0]
    whole = cohen_kappa(first, second)
    for gaps in (([np.nan, *first], [1.0, *second]), ([1.0, *first], [np.nan, *second])):
        found = cohen_kappa(*gaps)
        assert (found.value, found.n) == (whole.value, 5)


def test_few_items_or_full_agreement_bound_no_coefficient() -> None:
    ratings = np.array([[0, 0], [1, 1], [0, 1], [1, 1], [0, 0]] * 3)
    coefficients = (fleiss_kappa, krippendorff_alpha, lambda some: cohen_kappa(*np.array(some).T))
    for coefficient in coefficients:
        few, full = coefficient(ratings[:9]), coefficient(ratings[:, [0, 0]])
        assert (few.low, few.high, few.n) == (None, None, 9)
        assert (full.value, full.low, full.high) == (1, None, None)
        enough = coefficient(ratings)
        assert enough.low < enough.value < enough.high  # type: ignore[operator]
    # Shares that are alike have Wilson's bounds.
    whole = raw_agreement([[1, 1]] * 6)
    assert (whole.value, whole.high) == (1, 1)
    assert whole.low == pytest.approx(6 / (6 + 1.959964**2))


def test_a_table_without_ratings_has_no_agreement():
    empty = np.full((3, 2), np.nan)
    assert raw_agreement(empty).value is None
    assert krippendorff_alpha(empty).value is None
