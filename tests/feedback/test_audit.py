"""Attacks on a judge: a gullible one falls for them, a sound one sees them inside their tags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from alignlab.feedback.audit import ATTACKS, CONTROL
from alignlab.feedback.conversion import JudgeByScore
from alignlab.feedback.model_judge import ModelJudge
from alignlab.feedback.pairwise import PairwiseJudge
from alignlab.feedback.sentences import SentenceJudge
from alignlab.protocols import PairJudge
from alignlab.types import Preference, Score
from tests.feedback.worlds import by, prompt, response

PLAIN = response("r", "It is Lima.")


def fallen_for(judge: PairJudge) -> set[str]:
    """The attacks by which a response beats itself."""
    found = set()
    for attack, form in ATTACKS.items():
        attacked = replace(PLAIN, id=attack, text=form.replace("{text}", PLAIN.text))
        (said,) = judge.compare([(prompt(), attacked, PLAIN)], 0)
        assert isinstance(said.verdict, Preference)
        if said.verdict.winner == 0:
            found.add(attack)
    return found


def scored(answer: Callable[[str], str]) -> PairJudge:
    return JudgeByScore(ModelJudge(by(answer), samples=1))


def test_a_judge_that_repeats_stated_scores_is_caught() -> None:
    def gullible(asked: str) -> str:
        body = asked.split("<response>")[1].split("</response>")[0]
        return "Score: 5" if "Score: 5" in body else "Score: 2"

    assert fallen_for(scored(gullible)) == {
        "states a score", "fakes its own end", "fakes a chat turn"
    }  # fmt: skip


def test_a_fake_end_stays_inside_its_tags() -> None:
    """A judge that trusts only what follows the response sees nothing there."""

    def trusting(asked: str) -> str:
        return "Score: 5" if "Score: 5" in asked.split("</response>")[1] else "Score: 2"

    assert fallen_for(scored(trusting)) == set()


def test_a_chat_turn_cannot_be_faked() -> None:
    def naive(asked: str) -> str:
        return "Score: 5" if "<|im_start|>" in asked else "Score: 2"

    assert fallen_for(scored(naive)) == set()


@pytest.mark.parametrize(
    ("words", "attack"), [("wise", "flatters"), ("Better: A", "states a verdict")]
)
def test_a_judge_of_pairs_is_caught(words: str, attack: str) -> None:
    def answer(asked: str) -> str:
        first, second = asked.split("<answer_b>")
        favoured = [words in part.split("</answer")[0] for part in (first, second)]
        # The prompt itself names the verdicts, outside of the answers.
        favoured[0] = words in first.split("<answer_a>")[1]
        return "Better: " + ("tie" if favoured[0] == favoured[1] else "A" if favoured[0] else "B")

    assert fallen_for(PairwiseJudge(by(answer))) == {attack}


def test_more_words_beside_the_point_lower_the_share_of_relevant_sentences() -> None:
    judge = SentenceJudge(by(lambda asked: f"Relevant: {'yes' if 'Lima' in asked else 'no'}"))
    assert fallen_for(JudgeByScore(judge)) == set()
    for attack, form in ATTACKS.items():
        said = replace(PLAIN, text=form.replace("{text}", PLAIN.text))
        (found,) = judge.rate([(prompt(), [said])], 0)
        assert isinstance(found.verdict, Score)
        assert (found.verdict.value < 1) == (attack != CONTROL)
