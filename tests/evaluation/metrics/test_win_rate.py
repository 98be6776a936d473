from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlab.evaluation.metrics.intervals import Interval, bootstrap_mean, share_interval, wilson
from alignlab.evaluation.metrics.win_rate import Outcome, outcome, standing, win_rate
from alignlab.types import Feedback, Preference, Unscored


def outcomes(wins: int, ties: int, losses: int, unscored: int = 0) -> list[Outcome]:
    values: list[float | None] = [1.0] * wins + [0.5] * ties + [0.0] * losses + [None] * unscored
    return [Outcome(f"p{i}", value) for i, value in enumerate(values)]


def test_ties_count_half_and_unscored_not_at_all() -> None:
    found = win_rate(outcomes(50, 20, 30, unscored=7))
    assert found.rate.value == pytest.approx(0.6)
    assert (found.wins, found.ties, found.losses, found.unscored) == (50, 20, 30, 7)
    assert found.rate.n == 100


def test_verdicts() -> None:
    assert win_rate(outcomes(300, 0, 100)).verdict == "better"
    assert win_rate(outcomes(100, 0, 300)).verdict == "worse"
    assert win_rate(outcomes(210, 0, 190)).verdict == "not distinguishable"
    assert win_rate(outcomes(0, 100, 0)).verdict == "not distinguishable"
    assert win_rate([]).verdict == "not distinguishable"
    assert win_rate(outcomes(0, 0, 0, unscored=5)).rate.value is None


def test_a_few_wins_in_a_row_prove_nothing() -> None:
    assert win_rate(outcomes(1, 0, 0)).verdict == "not distinguishable"
    assert win_rate(outcomes(3, 0, 0)).verdict == "not distinguishable"
    sure = win_rate(outcomes(200, 0, 0))
    assert sure.verdict == "better"
    assert sure.rate.low is not None
    assert 0.97 < sure.rate.low < 1


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_swapping_sides_mirrors_the_rate(wins: int, ties: int, losses: int) -> None:
    one = win_rate(outcomes(wins, ties, losses), draws=200)
    mirrored = [Outcome(o.prompt_id, 1 - (o.value or 0.0)) for o in outcomes(wins, ties, losses)]
    other = win_rate(mirrored, draws=200)
    if one.rate.value is not None:
        assert one.rate.value + (other.rate.value or 0) == pytest.approx(1)
        assert one.rate.low == pytest.approx(1 - (other.rate.high or 0), abs=1e-9)


def test_seeds_of_one_prompt_stay_together() -> None:
    once = outcomes(30, 10, 20)
    thrice = [Outcome(o.prompt_id, o.value, seed) for seed in range(3) for o in once]
    one, three = win_rate(once), win_rate(thrice)
    assert three.rate.n == 180
    assert three.rate.low == pytest.approx(one.rate.low)
    assert three.rate.high == pytest.approx(one.rate.high)


def test_resampling_seeds_is_wider_when_seeds_disagree() -> None:
    mixed = [Outcome(f"p{i}", float(seed < 2), seed) for seed in range(3) for i in range(100)]
    held, crossed = win_rate(mixed), win_rate(mixed, resample_seeds=True)
    assert crossed.rate.value == held.rate.value
    assert crossed.verdict == "not distinguishable"


def test_outcomes_from_feedback() -> None:
    def feedback(verdict: Preference | Unscored) -> Feedback:
        return Feedback("p", ("a", "b"), "judge", verdict)

    assert outcome(feedback(Preference(0))).value == 1.0
    assert outcome(feedback(Preference(1))).value == 0.0
    assert outcome(feedback(Preference(1)), model_is=1).value == 1.0
    assert outcome(feedback(Preference(None))).value == 0.5
    assert outcome(feedback(Unscored("no answer"))).value is None


def both(some: list[Outcome], *, crossed: bool) -> tuple[Interval, Interval]:
    """The score interval and the bootstrap's, of the same outcomes."""
    values, prompts = [o.value for o in some], [o.prompt_id for o in some]
    seeds = [o.seed for o in some] if crossed else None
    return share_interval(values, prompts), bootstrap_mean(values, prompts_N=prompts, seeds_N=seeds)


@pytest.mark.parametrize("agree", [True, False])
def test_few_prompts_and_resampled_seeds_take_the_wider_bounds(agree: bool) -> None:
    some = [
        Outcome(f"p{i}", float(i > 0 if agree else seed < 2), seed)
        for seed in range(3)
        for i in range(20)
    ]
    score, drawn = both(some, crossed=True)
    rate = win_rate(some, resample_seeds=True).rate
    assert (rate.low, rate.high) == (min(score.low, drawn.low), max(score.high, drawn.high))  # type: ignore[type-var]
    # The lower bound is the score interval's where seeds agree, else the bootstrap's.
    assert (rate.low == score.low) == agree
    assert score.low != drawn.low


@pytest.mark.parametrize(
    ("some", "few"),
    [
        (outcomes(60, 0, 39), True),
        (outcomes(60, 0, 40), False),
        (outcomes(391, 0, 9), True),
        (outcomes(390, 0, 10), False),
        (outcomes(9, 0, 391), True),
        ([Outcome(o.prompt_id, o.value, s) for s in range(5) for o in outcomes(25, 0, 15)], True),
    ],
    ids=["99 prompts", "100 prompts", "9 losses", "10 losses", "9 wins", "40 prompts, 5 seeds"],
)
def test_which_interval_a_win_rate_has(some: list[Outcome], few: bool) -> None:
    score, drawn = both(some, crossed=False)
    assert win_rate(some).rate == (score if few else drawn)
    assert score != drawn


def test_standing_is_against_the_chance_given() -> None:
    rate = Interval(0.3, 0.25, 0.35, 400)
    assert standing(rate, 0.2) == "better"
    assert standing(rate, 0.4) == "worse"
    assert standing(rate, 0.25) == standing(rate, 0.35) == "not distinguishable"


def test_equal_outcomes_of_many_prompts_are_not_certain() -> None:
    """Resampling cannot vary equal outcomes: the bounds are Wilson's, as for few prompts."""
    found = win_rate(outcomes(0, 200, 0)).rate
    expected = wilson(100, 200)
    assert (found.value, found.low, found.high) == (0.5, expected.low, expected.high)
