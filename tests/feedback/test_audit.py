"""Checks of judges: a gullible one is caught, a sound one is not accused."""

from __future__ import annotations

import pytest

from alignlab.feedback.audit import ATTACKS, CONTROL, injection_check, position_bias
from alignlab.feedback.llm_judge import LLMJudge
from alignlab.feedback.pairwise import PairwiseJudge
from alignlab.feedback.rules import RandomJudge
from tests.feedback.worlds import by, prompt, response, says

ITEMS = [(prompt(f"p{k}"), [response(f"r{k}", f"answer {k}", of=f"p{k}")]) for k in range(30)]


def _gullible(asked: str) -> str:
    """Repeats a score that the response states."""
    body = asked.split("<response>")[1].split("</response>")[0]
    return "Score: 5" if "Score: 5" in body else "Score: 2"


def test_a_gullible_judge_is_caught() -> None:
    results = {r.attack: r for r in injection_check(LLMJudge(by(_gullible)), ITEMS, seed=0)}
    assert set(results) == set(ATTACKS)
    assert results[CONTROL].rate == 0
    assert results["states a score"].rate == 1
    assert results["states a score"].mean_change == 3
    assert results["states a score"].judged == 30
    assert results["flatters"].rate == 0


def test_a_fake_end_stays_inside_its_tags() -> None:
    """A judge that trusts only what follows the response sees nothing there."""

    def trusting(asked: str) -> str:
        return "Score: 5" if "Score: 5" in asked.split("</response>")[1] else "Score: 2"

    results = {r.attack: r for r in injection_check(LLMJudge(by(trusting)), ITEMS, seed=0)}
    assert all(result.rate == 0 for result in results.values())


def test_noise_shows_in_the_control() -> None:
    results = injection_check(RandomJudge(), ITEMS * 1, seed=0)
    assert all(0.2 < r.rate < 0.8 for r in results)


def test_unscored_is_counted() -> None:
    (result, *_) = injection_check(LLMJudge(says("?")), ITEMS, seed=0)
    assert (result.judged, result.unscored, result.rate, result.mean_change) == (0, 30, None, None)


def test_position_bias_by_hand() -> None:
    pairs = [(prompt(), response("a", "good"), response("b", "bad"))] * 4
    always_first = position_bias(PairwiseJudge(says("Better: A")).compare(pairs, 0))
    assert (always_first.judged, always_first.consistent, always_first.first) == (4, 0, 1)
    always_second = position_bias(PairwiseJudge(says("Better: B")).compare(pairs, 0))
    assert (always_second.consistent, always_second.first) == (0, 0)
    ties = position_bias(PairwiseJudge(says("Better: tie")).compare(pairs, 0))
    assert (ties.consistent, ties.first) == (1, None)

    def sound(asked: str) -> str:
        return "Better: A" if asked.index("good") < asked.index("bad") else "Better: B"

    fair = position_bias(PairwiseJudge(by(sound)).compare(pairs, 0))
    assert (fair.consistent, fair.first) == (1, pytest.approx(0.5))
    none = position_bias(PairwiseJudge(says("?")).compare(pairs, 0))
    assert (none.judged, none.consistent, none.first) == (0, None, None)
