"""The prompt of a row, in whichever column it stands; none is made up."""

from __future__ import annotations

from typing import Any

import pytest

from alignlab.data import check, load
from alignlab.data.preference import IMPLICIT
from alignlab.errors import BadInput
from alignlab.types import Message, Prompt
from tests.data.conftest import Write

ANSWERS = {"chosen": "The answer is 8.", "rejected": "The answer is 9."}
SAID = [{"role": "user", "content": "How many?"}]
ANSWERED = [*SAID, {"role": "assistant", "content": "The answer is 8."}]


def prompt_of(write: Write, row: dict[str, Any], name: str = "data.jsonl") -> Prompt:
    corpus = load(str(write([row], name)))
    (group,) = corpus.groups
    assert [r.text for r in group.responses] == ["The answer is 8.", "The answer is 9."]
    return group.prompt


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"question": "How many?"}, "How many?"),
        ({"query": "How many?"}, "How many?"),
        ({"input": "How many?"}, "How many?"),
        ({"instruction": "How many?"}, "How many?"),
        ({"instruction": "Count.", "input": "2 dogs"}, "Count.\n\n2 dogs"),
        ({"instruction": "Count.", "context": "2 dogs"}, "Count.\n\n2 dogs"),
        ({"instruction": "Count.", "input": " "}, "Count."),
        ({"messages": SAID}, "How many?"),
        ({"messages": ANSWERED}, "How many?"),
        ({"conversations": [{"from": "human", "value": "How many?"}]}, "How many?"),
        ({"prompt": None, "question": "How many?"}, "How many?"),
        ({"prompt": "How many?", "messages": ANSWERED}, "How many?"),
        ({"prompt": "Q: How many?", "question": "How many?"}, "Q: How many?"),
        ({"prompt": SAID, "question": "How many?"}, "How many?"),
    ],
)
def test_the_question_stands_in_another_column(
    write: Write, columns: dict[str, Any], text: str
) -> None:
    asked = prompt_of(write, {**columns, **ANSWERS})
    assert asked.messages == (Message("user", text),)


@pytest.mark.parametrize("field", ["system", "system_prompt", "system_message"])
@pytest.mark.parametrize(
    "columns", [{"prompt": "How many?"}, {"question": "How many?"}, {"messages": SAID}]
)
def test_a_system_column_is_a_system_turn(
    write: Write, field: str, columns: dict[str, Any]
) -> None:
    asked = prompt_of(write, {field: "Be brief.", **columns, **ANSWERS})
    assert asked.messages == (Message("system", "Be brief."), Message("user", "How many?"))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "How many?", "completion": "8"},
        {"question": "How many?", "response": "8"},
        {"instruction": "How many?", "response": "8"},
        {"instruction": "How many?", "output": "8"},
        {"messages": [*SAID, {"role": "assistant", "content": "8"}]},
    ],
)
def test_a_system_column_before_a_demonstration(write: Write, row: dict[str, Any]) -> None:
    (target,) = load(str(write([{"system": "Be brief.", **row}]))).demonstrations
    assert target.prompt.messages == (Message("system", "Be brief."), Message("user", "How many?"))
    assert target.response.text == "8"


def test_whole_dialogues_take_the_system_column_too(write: Write) -> None:
    sides = {
        side: [*SAID, {"role": "assistant", "content": text}] for side, text in ANSWERS.items()
    }
    asked = prompt_of(write, {"system": "Be brief.", **sides})
    assert [m.role for m in asked.messages] == ["system", "user"]


def test_history_comes_between_system_and_prompt(write: Write) -> None:
    row = {"system": "S", "history": [["a", "b"]], "prompt": "How many?", **ANSWERS}
    roles = [m.role for m in prompt_of(write, row).messages]
    assert roles == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "a", "question": "b"}, "field 'question': expected the same prompt as in 'pro"),
        ({"prompt": "a", "input": "b"}, "field 'input': expected the same prompt as in 'prompt'"),
        (
            {"system": "S", "messages": [{"role": "system", "content": "T"}, *SAID]},
            "field 'system': expected the conversation's own system turn 'T'",
        ),
        ({"user_text": "How many?"}, "field 'user_text': expected the prompt in a column named"),
        ({"problem": "How many?"}, "field 'problem': expected the prompt in a column named"),
        ({"prompt": None}, "field 'prompt': expected text, found null"),
        ({"prompt": 5}, "field 'prompt': expected text, found 5"),
    ],
)
def test_refused_rather_than_made_up(write: Write, row: dict[str, Any], says: str) -> None:
    path = write([{**row, **ANSWERS}])
    with pytest.raises(BadInput, match=says):
        load(str(path))


def test_messages_that_end_in_another_answer_are_no_prompt(write: Write) -> None:
    row = {"messages": [*SAID, {"role": "assistant", "content": "7"}], **ANSWERS}
    corpus = load(str(write([row])))
    assert corpus.counts[-1].dropped == {"prompt does not end in a user turn": 1}


@pytest.mark.parametrize("second", [{"prompt": None}, {}, {"question": None}])
def test_one_row_without_its_prompt_is_a_bad_record(write: Write, second: dict[str, Any]) -> None:
    rows = [{"prompt": "Name a fruit.", "chosen": "Plum.", "rejected": "Car."}]
    path = write([*rows, {**second, **ANSWERS}])
    (problem,) = check(str(path)).problems
    assert "line 2, field 'prompt': expected text" in problem


def test_an_implicit_prompt_is_counted(write: Write) -> None:
    both = {side: f"How many dogs? {text}" for side, text in ANSWERS.items()}
    corpus = load(str(write([{"id": "7", "source": "x", "lang": "en", **both}])))
    assert corpus.groups[0].prompt.text == "How many dogs? The answer is"
    assert corpus.counts[-1].changed == {IMPLICIT: 1}
    ignored = write([{"notes": "none", **both}], "b.jsonl")
    assert len(load(f"{ignored}?ignore=notes").groups) == 1


def test_one_answer_that_opens_the_other(write: Write) -> None:
    both = {"chosen": "Hi there. Go", "rejected": "Hi there. Go on"}
    (group,) = load(str(write([both]))).groups
    assert (group.prompt.text, [r.text for r in group.responses]) == (
        "Hi there.",
        ["Go", "Go on"],
    )


def test_an_instruction_with_input_is_rated_whole(write: Write) -> None:
    row = {"instruction": "Add.", "input": "1 1", "generations": ["2", "3"], "ratings": [2, 1]}
    assert load(str(write([row]))).groups[0].prompt.text == "Add.\n\n1 1"


def test_a_prompt_next_to_its_conversation(write: Write) -> None:
    """UltraChat and No Robots repeat the first question (alignment-handbook issue 67)."""
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (one,) = load(str(write([{"prompt": "Hi ", "messages": said}]))).demonstrations
    assert one.prompt.text == "Hi"
    with pytest.raises(BadInput, match="field 'prompt': expected the same prompt"):
        load(str(write([{"prompt": "Bye", "messages": said}])))
    (asked,) = load(str(write([{"prompt": "Hi", "messages": said[:1]}]))).prompts
    assert asked.text == "Hi"
