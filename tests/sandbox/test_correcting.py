"""Corrections sentence by sentence in the offline world."""

from __future__ import annotations

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.graded import GradedSentences
from alignlab.feedback.model_judge import critique_judge
from alignlab.feedback.prompts import judge_prompt
from alignlab.feedback.teachers import Criticised, Refiner
from alignlab.sandbox.correcting import corrected
from alignlab.sandbox.oracle import LABELS, assess
from alignlab.sandbox.questions import parse_question, prompt
from alignlab.sandbox.sentences import valued_sentences
from alignlab.sandbox.teachers import FAULTLESS, Teacher, TeacherOptions, make_teacher
from alignlab.sandbox.world import world
from alignlab.seeds import generator
from alignlab.types import Response, SampledBy, Score
from tests.sandbox.test_sentences import ASKED, OTHER, TOWN, fact


def correct(asked: str, answer: str, missed: float = 0.0, seed: int = 0) -> str:
    question = parse_question(asked)
    assert question is not None
    return corrected(generator(seed, "test"), asked, question, answer, missed)


def test_right_sentences_are_kept_word_by_word_and_false_ones_put_right() -> None:
    answer = f"{fact('food')} {fact('music', true=False)} {fact('food')} {fact('food', OTHER)}"
    first, second = correct(ASKED, answer).split(". ")
    assert f"{first}." == fact("food")
    assert world().fact(TOWN, "music").value in second


def test_broken_sentences_become_facts_that_are_not_stated() -> None:
    question = parse_question(ASKED)
    assert question is not None
    found = correct(ASKED, f"{fact('food')} The of purple.")
    values = valued_sentences(ASKED, question, found)
    assert [one.value for one in values] == [1.0, 1.0]


def test_a_wrong_yes_becomes_no() -> None:
    asked = f"Is it true that {fact('food', true=False)[:-1]}?"
    answer = f"Yes, {fact('food', true=False)}"
    found = correct(asked, answer)
    assert found.startswith("No, ")
    question = parse_question(asked)
    assert question is not None
    assert assess(asked, question, found).score == 5


def test_lists_are_numbered_anew() -> None:
    answer = f"1. {fact('food')}\n2. {fact('food')}\n3. {fact('colour')}"
    asked = f"List three facts about {TOWN}."
    assert correct(asked, answer) == f"1. {fact('food')}\n2. {fact('colour')}"


def test_nothing_right_becomes_a_fact() -> None:
    question = parse_question(ASKED)
    assert question is not None
    (one,) = valued_sentences(ASKED, question, correct(ASKED, "I like to sing in the morning."))
    assert one.value == 1.0


def test_overlooked_faults_stay() -> None:
    answer = f"{fact('food')} {fact('music', true=False)}"
    assert correct(ASKED, answer, missed=1.0) == answer


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_the_teacher_reads_the_correction_prompt(noise: float) -> None:
    answer = f"{fact('food')} {fact('music', true=False)}"
    teacher = Refiner(Teacher("strong", TeacherOptions(noise)), judge_prompt("correct"))
    response = Response("r", "p", answer, SampledBy("m"))
    (found,) = teacher.refine([Criticised(prompt(ASKED), response, "")], 0)
    assert isinstance(found, Response)
    assert (found.text == answer) == (noise == 5.0)
    assert found.text.startswith(fact("food"))


def test_the_teacher_values_numbered_sentences() -> None:
    answer = f"{fact('food')} {fact('music', true=False)}\n1. {fact('colour')}"
    response = Response("r", "p", answer, SampledBy("m"))
    exact = GradedSentences(Teacher("strong", TeacherOptions(0.0)))
    (found,) = exact.rate([(prompt(ASKED), [response])], 0)
    assert found.verdict == Score(2 / 3, (1.0, 0.0, 1.0))
    noisy = GradedSentences(Teacher("strong", TeacherOptions(2.0)))
    moved = [noisy.rate([(prompt(ASKED), [response])], seed)[0].verdict for seed in range(9)]
    assert any(verdict != found.verdict for verdict in moved)


def criticise(spec: str) -> str:
    answer = f"{fact('food')} {fact('music')} {fact('colour')} {fact('animal')}"
    critic = critique_judge(make_teacher(spec))
    (found,) = critic.rate([(prompt(ASKED), [Response("r", "p", answer, SampledBy("m"))])], 0)
    return found.verdict.text


def test_teachers_may_invent_faults() -> None:
    assert criticise("strong?judge_noise=0") == FAULTLESS[True]
    assert criticise("strong?judge_noise=0&invents=1") == f"Faults: {'; '.join(LABELS)}."
    assert make_teacher("weak?invents=0.2&judge_noise=1").name == (
        "sandbox:weak?judge_noise=1&invents=0.2"
    )
    with pytest.raises(BadInput, match="invents: expected 0 to 1, found 2"):
        make_teacher("weak?invents=2")
