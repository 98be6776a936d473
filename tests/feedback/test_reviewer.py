"""Reviews in one reply: what is read, what is refused, what is asked."""

from __future__ import annotations

import pytest

from alignlab.feedback.reviewer import LABELS, Review, Reviewer, read_review
from alignlab.generation.scripted import ScriptedEngine
from alignlab.types import Completion, Unscored
from tests.stages.making import prompt, responses

ALL = tuple(LABELS)
GOOD = "Weaknesses: too short.\nScore: 2\nSuggestions: say more.\nImproved response: A longer one."
READ = {"weaknesses": "too short.", "score": "2", "suggestions": "say more."}


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        "Sure, here it is.\n\n" + GOOD,
        GOOD.replace("\n", " "),
        GOOD.replace("Weaknesses:", "**Weaknesses:**").replace("Score:", "**Score**:"),
        GOOD.replace("Improved response", "## IMPROVED RESPONSE"),
        "<think>Score: 1</think>" + GOOD,
    ],
)
def test_forms_that_are_read(reply: str) -> None:
    assert read_review(reply, ALL) == Review(READ, "A longer one.")


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "A longer one.",
        GOOD.replace("Suggestions: say more.\n", ""),  # a field is missing
        GOOD.replace("too short.", ""),  # a field is empty
        GOOD.replace("A longer one.", ""),
        GOOD.replace("Score: 2", "Score: high"),
        GOOD.replace("Score: 2", "Score: 7"),  # not on the scale
        GOOD.replace("Score: 2", "Score: 2\nScore: 3"),  # twice
        "Score: 2\nWeaknesses: too short.\nSuggestions: say more.\nImproved response: Yes.",
    ],
)
def test_forms_that_are_no_review(reply: str) -> None:
    assert read_review(reply, ALL) is None


def test_fields_that_are_left_out_are_not_asked_for() -> None:
    assert read_review("Improved response: Yes.", ()) == Review({}, "Yes.")
    found = read_review("Score: 4/5\nImproved response: Yes.", ("score",))
    assert found == Review({"score": "4/5"}, "Yes.")


def test_labels_in_the_improved_response_are_its_own() -> None:
    text = GOOD.replace("A longer one.", "Score: 3 goals. Weaknesses: none.")
    found = read_review(text, ALL)
    assert found is not None
    assert found.improved == "Score: 3 goals. Weaknesses: none."


def test_the_text_of_a_review_is_read_back() -> None:
    assert read_review(Review(READ, "A longer one.").text, ALL) == Review(READ, "A longer one.")


def test_a_request_names_the_fields_in_their_order() -> None:
    asked = prompt(0)
    (first,) = responses(asked, "short")
    teacher = Reviewer(ScriptedEngine(lambda request, sample: GOOD), ("suggestions", "weaknesses"))
    (message,) = teacher.messages(asked, first)
    assert message.content.endswith(": Weaknesses, Suggestions, Improved response")
    assert "<response>\nshort\n</response>" in message.content


def test_results_carry_the_ids_of_the_first_responses() -> None:
    asked = prompt(0)
    one, two = responses(asked, "short", "other")
    replies = {"short": GOOD, "other": "no"}
    engine = ScriptedEngine(
        lambda request, sample: next(
            reply for text, reply in replies.items() if text in request.messages[0].content
        )
    )
    found, lost = Reviewer(engine, ALL).review([(asked, one), (asked, two)], 0)
    assert not isinstance(found, Unscored)
    review, better = found
    assert (review.fields, better.text, better.id) == (READ, "A longer one.", f"{one.id}/refined")
    assert lost == Unscored("no review in the form asked for")


class CutOff:
    """Engine whose only reply ended at its limit."""

    name = "cut off"

    def complete(self, requests):
        return [(Completion(GOOD, "length", 9, 9),) for _ in requests]


def test_a_review_that_was_cut_off_is_lost() -> None:
    asked = prompt(0)
    (found,) = Reviewer(CutOff(), ALL).review([(asked, responses(asked, "short")[0])], 0)
    assert found == Unscored("the review was cut off")
