"""Refinements by the letter of a critique, and the offline world's meta judge."""

from __future__ import annotations

import pytest

from alignlab.feedback.critique_units import MetaCritic, Unit
from alignlab.feedback.prompts import judge_prompt
from alignlab.feedback.teachers import Criticised, Refiner
from alignlab.sandbox.answers import LEVELS, write_answer
from alignlab.sandbox.obeying import obeyed
from alignlab.sandbox.oracle import LABELS, assess
from alignlab.sandbox.questions import FAMILIES, draw_question, parse_question, phrase, prompt
from alignlab.sandbox.teachers import make_teacher
from alignlab.sandbox.world import world
from alignlab.seeds import generator
from alignlab.types import Response, SampledBy
from tests.sandbox.test_sentences import ASKED, OTHER, TOWN, fact

GOOD = " ".join(map(fact, ("food", "music", "colour", "animal")))


def labels(asked: str, answer: str) -> list[str]:
    question = parse_question(asked)
    assert question is not None
    return assess(asked, question, answer).labels


def obey(asked: str, answer: str, *named: str, seed: int = 0) -> str:
    return obeyed(generator(seed, "test"), asked, answer, named, LEVELS["ideal"])


def test_named_faults_are_mended_and_others_stay() -> None:
    answer = f"{fact('food', true=False)} {fact('music')} {fact('music')}"
    assert labels(ASKED, answer) == ["too little", "something false", "unclear", "incomplete"]
    assert obey(ASKED, answer) == answer
    assert "something false" not in labels(ASKED, obey(ASKED, answer, "something false"))
    assert "unclear" in labels(ASKED, obey(ASKED, answer, "something false"))
    alone = obey(ASKED, answer, "unclear")
    assert alone == f"{fact('food', true=False)} {fact('music')}"
    assert labels(ASKED, obey(ASKED, answer, *labels(ASKED, answer))) == []


@pytest.mark.parametrize(
    ("label", "lost"),
    [
        ("something false", ["something false", "incomplete"]),  # three true facts of four needed
        ("unclear", ["unclear"]),
        *((label, ["incomplete"]) for label in ("wrong subject", "too little", "incomplete")),
    ],
)
def test_an_invented_fault_costs_a_point(label: str, lost: list[str]) -> None:
    assert labels(ASKED, GOOD) == []
    assert labels(ASKED, obey(ASKED, GOOD, label)) == lost


def test_an_answer_on_another_town_is_written_anew() -> None:
    assert labels(ASKED, obey(ASKED, fact("food", OTHER), "wrong subject")) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_true_critique_mends_answers_to_every_family(family: str) -> None:
    for seed in range(40):
        rng = generator(seed, "test", family)
        question = draw_question(rng, family, world().alignment)
        asked = phrase(rng, question)
        answer = write_answer(rng, asked, question, LEVELS["web"])
        named = labels(asked, answer)
        mended = obey(asked, answer, *named, seed=seed)
        assert not set(labels(asked, mended)) & set(named), (asked, answer, mended, named)


def test_the_teacher_obeys_a_critique_or_writes_anew() -> None:
    answer = f"{fact('food', true=False)} {fact('music')}"
    one = Criticised(prompt(ASKED), Response("r", "p", answer, SampledBy("m")),
                     "Problems: something false.")  # fmt: skip
    obeying = make_teacher("strong?judge_noise=0&obeys=true")
    assert obeying.name == "sandbox:strong?judge_noise=0&obeys=true"
    (found,) = Refiner(obeying, judge_prompt("short_refine")).refine([one], 0)
    assert isinstance(found, Response)
    first, second = found.text.split(". ")
    assert world().fact(TOWN, "food").value in first
    assert second == fact("music")
    overlooked = make_teacher("strong?judge_noise=5&obeys=true")
    (found,) = Refiner(overlooked, judge_prompt("refine")).refine([one], 0)
    assert isinstance(found, Response)
    assert found.text == answer


def test_the_meta_judge_tells_true_from_invented_faults_and_the_severe_ones() -> None:
    answer = f"{fact('food', true=False)} {fact('music')} {fact('colour')} {fact('food', OTHER)}"
    assert labels(ASKED, answer) == ["something false", "incomplete"]
    units = [Unit("", label) for label in (*LABELS, "rude")]
    response = Response("r", "p", answer, SampledBy("m"))
    (exact,) = MetaCritic(make_teacher("strong?judge_noise=0")).classify(
        [(prompt(ASKED), response, units)], 0
    )
    assert exact == ("invalid", "invalid", "major", "invalid", "minor", "invalid")
    (wrong,) = MetaCritic(make_teacher("strong?judge_noise=5")).classify(
        [(prompt(ASKED), response, units)], 0
    )
    assert wrong == ("major", "major", "invalid", "minor", "invalid", "minor")
