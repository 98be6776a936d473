"""True values of sentences in the offline world, by hand."""

from __future__ import annotations

import pytest

from alignlab.feedback.specs import judge
from alignlab.sandbox.questions import parse_question, prompt
from alignlab.sandbox.sentences import valued_sentences
from alignlab.sandbox.world import BY_NAME, world
from alignlab.types import Response, SampledBy, Score, Unscored

TOWN, OTHER = world().alignment[:2]


def fact(attribute: str, town: str = TOWN, *, true: bool = True) -> str:
    value = world().fact(town, attribute).value
    if not true:
        value = next(v for v in BY_NAME[attribute].values if v != value)
    return BY_NAME[attribute].named[0].format(e=town, v=value) + "."


def faults(asked: str, answer: str) -> list[str]:
    question = parse_question(asked)
    assert question is not None
    return [one.fault or "good" for one in valued_sentences(asked, question, answer)]


ASKED = f"Tell me about {TOWN}."


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([fact("food"), fact("music")], ["good", "good"]),
        ([fact("food"), fact("music", true=False)], ["good", "false"]),
        ([fact("food"), fact("food")], ["good", "repeated"]),
        ([fact("food"), fact("food", OTHER)], ["good", "off-topic"]),
        ([fact("food"), "That is a good question."], ["good", "filler"]),
        ([ASKED, fact("food")], ["echo", "good"]),
        ([fact("food"), "Purple of the."], ["good", "unclear"]),
        ([fact("food"), fact("music")[:-1]], ["good", "unfinished"]),
        ([fact("food"), "What is made here?"], ["good", "question"]),
        ([f"Welcome to {TOWN}.", fact("food")], ["off-topic", "good"]),
    ],
)  # fmt: skip
def test_faults_by_hand(answer: list[str], expected: list[str]) -> None:
    assert faults(ASKED, " ".join(answer)) == expected


def test_a_greeting_to_a_visitor_is_neutral() -> None:
    asked = f"Describe {TOWN} for a visitor."
    question = parse_question(asked)
    assert question is not None
    found = valued_sentences(asked, question, f"Welcome to {TOWN}. {fact('food')}")
    assert [one.value for one in found] == [0.5, 1.0]


def test_numbered_lines_are_sentences() -> None:
    answer = f"1. {fact('food')}\n2. {fact('music', true=False)}\n3. {fact('colour')}"
    assert faults(f"List three facts about {TOWN}.", answer) == ["good", "false", "good"]


def test_yes_and_no_are_judged_with_their_claim() -> None:
    asked = f"Is it true that {fact('food')[:-1]}?"
    assert parse_question(asked) is not None
    assert faults(asked, f"Yes, {fact('food')}") == ["good"]
    assert faults(asked, f"No, {fact('food')}") == ["false"]


def rate(spec: str, text: str, asked: str = ASKED):
    source = judge(spec, make_completer=lambda name: None)
    (found,) = source.rate([(prompt(asked), [Response("r", "p", text, SampledBy("m"))])], 3)
    return found


def test_the_source_gives_a_value_per_sentence_and_their_mean() -> None:
    found = rate("sandbox:sentences", f"{fact('food')} {fact('music', true=False)}")
    assert found.verdict == Score(0.5, (1.0, 0.0))
    assert found.rationale == "good; false"
    assert isinstance(rate("sandbox:sentences", "").verdict, Unscored)
    assert isinstance(rate("sandbox:sentences", "Hm.", "What is love?").verdict, Unscored)


def test_noise_moves_values_by_tenths_within_their_bounds() -> None:
    text = " ".join(fact(name) for name in ("food", "music", "colour", "animal"))
    noisy = rate("sandbox:sentences?noise=0.4", text).verdict
    assert noisy == rate("sandbox:sentences?noise=0.4", text).verdict
    assert set(noisy.samples) != {1.0}
    assert all(0 <= v <= 1 and round(10 * v, 9) == round(10 * v) for v in noisy.samples)
