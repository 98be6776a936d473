"""Figures of reward models on pairs, by hand."""

from __future__ import annotations

import pytest

from alignlab.measuring.reward_pairs import (
    accuracy_change,
    label_figures,
    longer_wins,
    pair_accuracy,
    rival_changes,
    similar_length,
)
from alignlab.types import PreferenceGroup
from tests.stages.making import prompt, responses

TEN = " ".join("abcdefghij")
"""Ten words."""


def pair(n: int, better: str, worse: str) -> PreferenceGroup:
    asked = prompt(n)
    return PreferenceGroup(asked, tuple(responses(asked, better, worse)), (1.0, 0.0), "truth")


PAIRS = [pair(0, TEN, TEN + " k"), pair(1, "a b", "a"), pair(2, "a", "a b c"), pair(3, TEN, TEN)]


def rewards(*both: tuple[float, float]) -> dict[str, float]:
    return {f"p{i}/M1/{k}": value for i, two in enumerate(both) for k, value in enumerate(two)}


def test_lengths_within_a_tenth_are_similar():
    assert [similar_length(p) for p in PAIRS] == [True, False, False, True]


def test_accuracy_counts_ties_half_and_similar_lengths_apart():
    known = rewards((2.0, 1.0), (0.0, 1.0), (1.0, 1.0))  # none of the fourth pair
    accuracy, alike, brier = pair_accuracy("RM", PAIRS, known)
    assert (accuracy.values, accuracy.unscored) == ((1.0, 0.0, 0.5), 1)
    assert accuracy.prompt_ids == tuple(p.prompt.cluster for p in PAIRS[:3])
    assert (alike.metric, alike.values) == ("accuracy_similar_length", (1.0,))
    # sigmoid(1) = .7311: squared distances from 1 of .7311, .2689 and .5
    assert brier.values == pytest.approx((0.0723, 0.5344, 0.25), abs=1e-4)
    assert [m.is_share for m in (accuracy, alike, brier)] == [True, True, False]


def test_the_longer_response_as_a_guess():
    assert longer_wins(PAIRS).values == (0.0, 1.0, 0.0, 0.5)


def test_changes_are_paired():
    one = rewards((2.0, 1.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0))
    other = rewards((1.0, 2.0), (0.0, 1.0), (2.0, 1.0))
    change = accuracy_change("RM1", "RM0", PAIRS, (one, other))
    assert (change.values, change.against, change.unscored) == ((1.0, 0.0, -0.5), "RM0", 1)
    assert not change.is_share


def test_labels_are_held_against_the_order_of_the_pool():
    wrong = PreferenceGroup(PAIRS[1].prompt, PAIRS[1].responses[::-1], (2.0, 1.0), "RM")
    kept, right, alike = label_figures("RM1", PAIRS, [PAIRS[0], wrong])
    assert kept.values == (1.0, 1.0, 0.0, 0.0)
    assert right.values == (1.0, 0.0)
    assert alike.values == (1.0,)


def test_rivals_are_compared_on_pairs_that_both_scored():
    one = pair_accuracy("RM1", PAIRS, rewards((2.0, 1.0), (0.0, 1.0)))
    other = pair_accuracy("RM of all labels", PAIRS, rewards((1.0, 2.0), (0.0, 1.0), (2.0, 1.0)))
    rivals = [("RM1", "RM of all labels"), ("RM1", "RM1 by coin"), ("RM2", "RM1")]
    (change,) = rival_changes([*one, *other], rivals)
    assert (change.model, change.against) == ("RM1", "RM of all labels")
    assert change.values == (1.0, 0.0)
