"""Questions are read back as what they ask, whoever wrote them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlab.sandbox.questions import (
    CLOSED,
    FAMILIES,
    PHRASINGS,
    SandboxQuestion,
    draw_question,
    parse_question,
    phrase,
    prompt,
)
from alignlab.sandbox.world import ATTRIBUTES, world
from alignlab.seeds import generator

A, B = world().entities[:2]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_phrasing_reads_back(family: str) -> None:
    seen = set()
    for i in range(300):
        rng = generator(i, family)
        question = draw_question(rng, family, world().entities)
        text = phrase(rng, question)
        assert parse_question(text) == question
        seen.add(text.split(" ")[0])
    assert len(seen) > 1
    assert (question.query_type == "closed") == (family in CLOSED)


def test_case_space_and_final_mark_are_free() -> None:
    expected = SandboxQuestion("tell", (A,))
    for text in (f"tell me  about {A.lower()}", f"Tell me about {A}!", f" Tell me about {A} ."):
        assert parse_question(text) == expected


def test_attribute_questions_name_their_attribute() -> None:
    for attribute in ATTRIBUTES:
        for text in attribute.questions:
            assert parse_question(text.format(e=A)) == SandboxQuestion(
                "fact", (A,), (attribute.name,)
            )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Tell me about Atlantis.",
        f"Compare {A} and {A}.",
        f"Tell me about the food and the food of {A}.",
        f"What is the river of {A}?",
        "Is it true that it lies in the red desert?",
        "Is it true that Atlantis makes iron tools?",
        f"Tell me about {A}. Tell me about {B}.",
    ],
)
def test_what_makes_no_sense_is_none(text: str) -> None:
    assert parse_question(text) is None


@given(st.text(max_size=120))
def test_any_text_is_read_without_error(text: str) -> None:
    parse_question(text)


def test_prompt_carries_family_type_and_a_stable_id() -> None:
    made = prompt(f"Compare {A} and {B}.", reference="r")
    assert (made.source, made.query_type, made.reference) == ("sandbox/compare", "open", "r")
    assert made.id == prompt(f"Compare {A} and {B}.").id
    odd = prompt("How are you?")
    assert (odd.source, odd.query_type) == ("sandbox", None)


def test_open_families_have_several_phrasings() -> None:
    assert all(len(PHRASINGS[family]) >= 2 for family in FAMILIES)
