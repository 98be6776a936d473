"""Labels that only some records have, and pairs under other names: nothing is left out unsaid."""

from __future__ import annotations

from typing import Any

import pytest

from alignlab.data import load
from alignlab.errors import BadInput
from tests.data.conftest import Write

BETTER = {"prompt": "Name a river.", "completion": "The Nile"}
WORSE = {"prompt": "Name a lake.", "completion": "Bread"}
PAIRS = [
    ("preferred", "dispreferred"), ("preferred", "non_preferred"), ("accepted", "rejected"),
    ("winner", "loser"), ("good", "bad"), ("pos", "neg"), ("positive", "negative"),
    ("better", "worse"), ("win", "lose"), ("response_w", "response_l"), ("y_w", "y_l"),
    ("Preferred Response", "Dispreferred Response"), ("best_answer", "worst_answer"),
    ("chosen_response", "rejected_response"),
]  # fmt: skip


@pytest.mark.parametrize("names", PAIRS)
@pytest.mark.parametrize("asked", ["prompt", "question"])
def test_a_pair_under_other_names_is_not_a_file_of_prompts(
    write: Write, asked: str, names: tuple[str, str]
) -> None:
    row = {asked: "Name a river.", names[0]: "The Nile", names[1]: "Bread"}
    with pytest.raises(BadInput) as error:
        load(str(write([row])))
    assert f"line 1, field '{names[0]}': expected a pair" in str(error.value)
    assert "chosen and rejected" in str(error.value)


def test_the_prompts_of_such_a_file_are_read_where_that_is_asked(write: Write) -> None:
    path = write([{"prompt": "Name a river.", "winner": "The Nile", "loser": "Bread"}])
    assert len(load(f"prompts:{path}").prompts) == 1


@pytest.mark.parametrize("more", [{"good": True, "bad": False}, {"win": 3, "lose": 1},
                                  {"winner": "x"}, {"pos": "noun", "neg": ""}])  # fmt: skip
def test_columns_that_are_no_answers_are_none(write: Write, more: dict[str, Any]) -> None:
    assert len(load(str(write([{"prompt": "Name a river.", **more}]))).prompts) == 1


@pytest.mark.parametrize("label", [True, 1, "true"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_label_that_some_records_lack_is_refused(write: Write, at: int, label: Any) -> None:
    rows: list[dict[str, Any]] = [dict(BETTER), dict(WORSE), {**BETTER, "prompt": "Name a sea."}]
    for number, row in enumerate(rows):
        if number != at:
            row["label"] = label
    with pytest.raises(BadInput, match=f"line {at + 1}, field 'label'"):
        load(str(write(rows)))


@pytest.mark.parametrize("field", ["kto_tag", "label"])
@pytest.mark.parametrize("layout", ["prompt_completion", "alpaca", "messages"])
@pytest.mark.parametrize("first", [True, False])
def test_mixtures_of_labelled_and_plain_records_are_refused_in_every_layout(
    write: Write, layout: str, field: str, first: bool
) -> None:
    plain = [
        {
            "prompt_completion": {"prompt": asked, "completion": text},
            "alpaca": {"instruction": asked, "output": text},
            "messages": {"messages": [{"role": "user", "content": asked},
                                      {"role": "assistant", "content": text}]},
        }[layout]
        for asked, text in (("Name a river.", "The Nile"), ("Name a lake.", "Bread"))
    ]  # fmt: skip
    plain[0 if first else 1][field] = True  # type: ignore[assignment]
    with pytest.raises(BadInput, match=f"line 2, field '{field}'"):
        load(f"{layout}:{write(plain)}")


def test_feedback_that_only_later_records_have_is_refused(write: Write) -> None:
    with pytest.raises(BadInput, match="line 1, field 'feedback'"):
        load(str(write([dict(BETTER), {**WORSE, "feedback": "This is no lake."}])))
