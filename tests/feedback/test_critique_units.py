"""Critiques as lists of faults: forms that are read, forms that are not, classes of units."""

from __future__ import annotations

import pytest

from alignlab.feedback.critique_units import (
    UNJUDGED,
    MetaCritic,
    Unit,
    distinct,
    read_classes,
    read_units,
    write_units,
)
from alignlab.types import Unscored
from tests.feedback.worlds import by, prompt, response, says

FALSE, VAGUE = Unit("", "something false"), Unit("", "unclear")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", ()),
        ("Problems: none.", ()),
        ("Faults: none", ()),
        ("Nothing needs to change.", ()),
        ("Problems: something false, unclear.", (FALSE, VAGUE)),
        ("problems: Unclear, unclear", (VAGUE,)),
        ("Problems: unclear. Score: 3", (VAGUE,)),
        (
            "Faults: something false (the food is stew, not pie); unclear (makes no sense: x.).",
            (Unit("", "something false", "the food is stew, not pie"), Unit("", "unclear",
             "makes no sense: x.")),
        ),
        (
            "Here is my critique:\n- 2 | Incorrect | It is 3 km; say so.\n* whole|style| Too long",
            (Unit("2", "incorrect", "It is 3 km; say so."), Unit("", "style", "Too long")),
        ),
        ("1. sentence 3 | **Repeated** | As in 1.", (Unit("3", "repeated", "As in 1."),)),
        ("- 1 | unclear | a\n- 1 | unclear | b", (Unit("1", "unclear", "a"),)),
        ("<think>- 1 | style | no</think>none", ()),
    ],
)  # fmt: skip
def test_forms_that_are_read(text: str, expected: tuple[Unit, ...]) -> None:
    assert read_units(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "It is too short.", "- Too short.", "- 1 | style | a\n- Too short.", "Problems: , .",
     "- 1 | | no kind", "Problems:"],
)  # fmt: skip
def test_forms_that_are_not(text: str) -> None:
    assert read_units(text) is None


def test_written_critiques_are_read_back_in_one_order() -> None:
    units = (Unit("", "unclear", "Say | which\none."), Unit("2", "style", "s"), Unit("", "a", "b"))
    text = write_units(units, "lines")
    assert text == "- whole | a | b\n- whole | unclear | Say / which one.\n- 2 | style | s"
    assert {u.key for u in read_units(text) or ()} == {u.key for u in units}
    assert write_units((VAGUE, FALSE), "labels") == "Problems: something false, unclear."
    assert read_units(write_units((VAGUE, FALSE), "labels")) == (FALSE, VAGUE)
    assert read_units(write_units((), "lines")) == read_units(write_units((), "labels")) == ()


def test_a_unit_in_other_words_is_the_same_unit() -> None:
    one, other = Unit("1", "style", "a"), Unit("2", "style", "a")
    assert distinct([one, other, Unit("1", "style", "b")]) == (one, other)


def test_classes_are_read_whole_or_not_at_all() -> None:
    assert read_classes("1: minor\n2. Major.\n\n3) invalid", 3) == ("minor", "major", "invalid")
    assert read_classes("", 0) == ()
    for reply in ("1: minor", "1: minor\n3: major", "2: minor\n1: major", "1: bad\n2: minor",
                  "They are:\n1: minor\n2: minor"):  # fmt: skip
        assert read_classes(reply, 2) is None


def test_the_meta_judge_sees_numbered_units_and_is_not_asked_about_none() -> None:
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return "1: invalid\n2: major" if "Lima" in text else "major"

    items = [
        (prompt("p"), response("a", "Lima."), (VAGUE, Unit("2", "style", "Too long."))),
        (prompt("p"), response("b", "Rome."), (VAGUE,)),
        (prompt("p"), response("c", "Oslo."), ()),
    ]
    found = MetaCritic(by(answer)).classify(items, seed=0)
    assert found == [("invalid", "major"), Unscored(UNJUDGED), ()]
    assert len(asked) == 2
    assert "<faults>\n1: whole | unclear | unclear\n2: 2 | style | Too long.\n</faults>" in asked[0]
    (failed,) = MetaCritic(says(None)).classify(items[:1], seed=0)
    assert isinstance(failed, Unscored)
    assert "call failed" in failed.reason
