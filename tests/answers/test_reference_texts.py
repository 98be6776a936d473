"""A reference that names a checker is shown, compared and imitated by its answer, never as JSON."""

import json

import pytest

from alignlab.feedback.model_judge import show_reference
from alignlab.feedback.r3 import R3, _look
from alignlab.stages.demonstrate import references_as_demonstrations
from alignlab.types import Demonstration, Message, Prompt, Response, SampledBy, Unscored

GYM = json.dumps({"gym": "chain_sum", "answer": "7", "metadata": {}})
RULES = json.dumps({"instruction_id_list": ["x"], "kwargs": [{}]})


def asked(reference: str | None) -> Prompt:
    return Prompt("p", (Message("user", "3 + 4 ="),), "gym", reference, "closed")


@pytest.mark.parametrize(("reference", "words"), [(GYM, "7"), ("seven", "seven")])
def test_the_answer_is_shown_and_imitated(reference: str, words: str):
    prompt = asked(reference)
    assert show_reference(prompt, 0) == {"reference": words}
    shown = [Demonstration(prompt, Response("r", "p", "8", SampledBy("m")))]
    assert [d.response.text for d in references_as_demonstrations(shown)] == [words]


@pytest.mark.parametrize("reference", [RULES, None])
def test_without_an_answer_there_is_nothing_to_show(reference: str | None):
    assert isinstance(show_reference(asked(reference), 0), Unscored)
    assert isinstance(_look(asked(reference), "closed", "8"), Unscored)


def test_relevance_to_a_closed_question_is_to_its_answer():
    seen: list[tuple[str, str]] = []

    class Pairs:
        name = "pairs"

        def products(self, pairs: list[tuple[str, str]]) -> list[float]:
            seen.extend(pairs)
            return [0.5] * len(pairs)

    R3(Pairs()).rate([(asked(GYM), [Response("r", "p", "8", SampledBy("m"))])], 0)
    assert seen == [("7", "8")]
