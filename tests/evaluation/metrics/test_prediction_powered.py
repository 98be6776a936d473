"""Prediction-powered means: by hand, at their limits, and covering the truth."""

import math

import numpy as np
import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import wilson
from alignlab.evaluation.metrics.prediction_powered import powered_mean
from alignlab.seeds import generator

NAN = math.nan


def test_the_mean_and_its_interval_by_hand():
    # labelled: Y = 1, 1, 0, 0 and f = 1, 1, 0, 1; others: f = 1, 1, 1, 0.
    found = powered_mean([1, 1, 0, 1, 1, 1, 1, 0], [1, 1, 0, 0, NAN, NAN, NAN, NAN])
    # cov(Y, f) = (1 + 1 + 3 - 1) / 8 / 3 = 1/6; var of all f = 8/7 * 3/16 = 3/14; n/N = 1:
    # w = (1/6) / (2 * 3/14) = 7/18.
    assert found.weight == pytest.approx(7 / 18)
    # mean Y = 1/2 and both means of f are 3/4.
    assert found.corrected.value == pytest.approx(0.5)
    rest = np.array([1 - 7 / 18, 1 - 7 / 18, 0, -7 / 18])
    variance = rest.var(ddof=1) / 4 + (7 / 18) ** 2 * (1 / 4) / 4
    assert found.corrected.high == pytest.approx(min(1, 0.5 + 3.18244631 * math.sqrt(variance)))
    assert (found.corrected.n, found.unlabelled) == (4, 4)


def test_the_judge_moves_the_mean_by_what_the_others_differ():
    judge = [1, 0, 1, 0] * 5 + [1] * 15 + [0] * 5
    found = powered_mean(judge, [1, 0, 1, 0] * 5 + [NAN] * 20)
    # A judge that is always right: people's 0.5 moves by w (0.75 - 0.5).
    assert found.corrected.value == pytest.approx(0.5 + 0.25 * found.weight)
    assert found.people.value == 0.5


def test_labels_on_everything_are_the_classical_mean():
    judge, people = [0, 1, 1, 0, 1], [1, 1, 0, 0.5, 1]
    found = powered_mean(judge, people)
    assert found.weight == 0
    assert found.corrected == found.people
    half = 2.77644511 * np.std(people, ddof=1) / math.sqrt(5)
    assert found.people.value == pytest.approx(0.7)
    assert found.people.low == pytest.approx(0.7 - half)


@pytest.mark.parametrize("judge", [[0.5] * 8, [0, 1, 0, 1, 0, 1, 0, 1]])
def test_a_useless_judge_is_left_out(judge):
    # Constant, or without covariance with the labels (1, 1, 0, 0).
    found = powered_mean(judge, [1, 1, 0, 0] + [NAN] * 4)
    assert found.weight == 0
    assert found.corrected == found.people


def test_a_judge_against_people_gets_no_weight():
    found = powered_mean([0, 0, 1, 1, 0, 1, 0, 1], [1, 1, 0, 0] + [NAN] * 4)
    assert found.weight == 0


def test_units_of_a_prompt_are_averaged_first():
    apart = powered_mean([1, 0, 1, 0], [1, 0, NAN, NAN], prompts_N=["a", "b", "c", "d"])
    twice = powered_mean(
        [1, 0, 1, 0] * 2, [1, 0, NAN, NAN, NAN, NAN, NAN, NAN], prompts_N=list("abcd") * 2
    )
    assert apart == twice


def test_nothing_labelled_and_one_label():
    assert powered_mean([1, 0], [NAN, NAN]).corrected.value is None
    one = powered_mean([1, 0, 1], [1, NAN, NAN])
    assert (one.corrected.value, one.corrected.low) == (1.0, None)


def test_an_unread_verdict_counts_one_half():
    people = [1, 0, 1, 0, NAN, NAN, NAN, NAN]
    unread = powered_mean([1, 0, NAN, 0, 1, NAN, 0, 1], people)
    assert unread == powered_mean([1, 0, 0.5, 0, 1, 0.5, 0, 1], people)


def test_refused():
    with pytest.raises(BadInput, match="one per prediction"):
        powered_mean([1, 0], [1])
    with pytest.raises(BadInput, match=r"values in \[0, 1\]"):
        powered_mean([2, 0], [1, NAN])


@pytest.mark.parametrize("right", [0.5, 0.75, 0.95])
def test_intervals_cover_the_truth_and_a_good_judge_shortens_them(right):
    rng = generator("prediction powered", right)
    covered, width, classical, biased = 0, 0.0, 0.0, 0
    runs, truth = 600, 0.6
    for _ in range(runs):
        people = (rng.random(300) < truth).astype(float)
        judge = np.where(rng.random(300) < right, people, 1 - people)
        judge = np.where((rng.random(300) < 0.2), 1.0, judge)  # a judge that favours the model
        known = np.where(np.arange(300) < 60, people, np.nan)
        found = powered_mean(judge, known)
        covered += found.corrected.covers(truth)
        width += found.corrected.high - found.corrected.low
        classical += found.people.high - found.people.low
        biased += abs(judge.mean() - truth) < 0.05
    assert 0.925 <= covered / runs <= 0.98
    assert width <= classical * {0.5: 1.01, 0.75: 0.97, 0.95: 0.75}[right]


def test_equal_labels_have_wilsons_bounds():
    found = powered_mean([1, 1, 0, 1, 1], [1, 1, 1, NAN, NAN])
    expected = wilson(3, 3)
    assert (found.people.value, found.people.low, found.people.high) == (
        1.0, expected.low, expected.high
    )  # fmt: skip
