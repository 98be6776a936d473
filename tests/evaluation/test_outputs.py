"""Files of answers joined to questions: no answer may end under another question."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.outputs import FOREIGN, FURTHER, LATER_NULL, NULL, read_outputs
from alignlab.evaluation.tasks import ModelAnswers, Question
from alignlab.types import Message, Prompt

RIVERS = ["Name river 1.", "Name river 10.", "Name river 2."]


def questions(*texts: str, first: int = 0, follow_ups: tuple[str, ...] = ()) -> list[Question]:
    return [
        Question(Prompt(str(i), (Message("user", text),)), follow_ups=follow_ups)
        for i, text in enumerate(texts, start=first)
    ]


def read(folder: Path, asked: list[Question], *rows: dict[str, Any]) -> ModelAnswers:
    file = folder / "mine.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return read_outputs(file, asked)


def texts(answers: ModelAnswers) -> dict[str, list[str]]:
    return {key: [r.text for r in turns] for key, turns in answers.turns.items()}


def row(text: str | None, output: Any, **more: Any) -> dict[str, Any]:
    return {**({} if text is None else {"instruction": text}), "output": output, **more}


JOINED = {
    "ids as a table with gaps writes them": [
        row(None, "a", id=0.0), row(None, "b", id="1.0"), row(None, "c", id=2.0),
    ],
    "the file numbers its own rows": [
        row(RIVERS[2], "c", id=0), row(RIVERS[1], "b", id=1), row(RIVERS[0], "a", id=2),
    ],
    "keys sorted as text": [
        row(RIVERS[0], "a", id="0"), row(RIVERS[2], "c", id="1"), row(RIVERS[1], "b", id="2"),
    ],
    "ids from 1": [row(t, o, id=i + 1) for i, (t, o) in enumerate(zip(RIVERS, "abc", strict=True))],
    "ids alone": [row(None, "c", id=2), row(None, "a", id=0), row(None, "b", id=1)],
    "an id of the answer beside the question's": [
        row(None, "a", id=2, question_id="0"), row(None, "b", id=0, question_id="1"),
        row(None, "c", id=1, question_id="2"),
    ],
    "blanks around the text": [row(f" {t}\n", o) for t, o in zip(RIVERS, "abc", strict=True)],
    "the prompt as it was templated": [
        {"id": i, "prompt": f"<|user|>\n{t}\n<|assistant|>", "output": o}
        for i, (t, o) in enumerate(zip(RIVERS, "abc", strict=True))
    ],
    "messages": [
        {"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": o}]}
        for t, o in zip(RIVERS, "abc", strict=True)
    ],
    "uid and answers in objects": [
        {"uid": str(i), "messages": [{"role": "assistant", "content": {"answer": o}}]}
        for i, o in enumerate("abc")
    ],
    "choices with objects": [
        {"question_id": i, "choices": [{"turns": [{"content": o, "token_len": 1}]}]}
        for i, o in enumerate("abc")
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "choice", [{"message": {"role": "assistant", "content": "a"}}, {"text": "a"}]
)
def test_openai_s_responses_are_read(tmp_path: Path, choice: dict[str, Any]) -> None:
    given = {"id": 0, "model": "m", "choices": [{**choice, "finish_reason": "length"}]}
    null = {"id": 1, "model": "m", "choices": [{"message": {"content": None}}]}
    found = read(tmp_path, questions(*RIVERS), given, null)
    assert (texts(found), found.model, found.left_out) == ({"0": ["a"]}, "m", {NULL: 1})
    assert found.turns["0"][0].finish == "length"


@pytest.mark.parametrize("name", JOINED)
def test_answers_end_under_their_own_question(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, questions(*RIVERS), *JOINED[name])
    assert texts(found) == {"0": ["a"], "1": ["b"], "2": ["c"]}
    assert found.left_out == {}


def test_instructions_with_an_input_are_told_apart(tmp_path: Path) -> None:
    asked = questions("Translate.", "Translate.\n\none", "Translate.\n\ntwo")
    rows = [row("Translate.", "2", input="two"), row("Translate.", "1", input="one")]
    found = read(tmp_path, asked, *rows, row("Translate.", "0", input=""))
    assert texts(found) == {"2": ["2"], "1": ["1"], "0": ["0"]}


@pytest.mark.parametrize("ids", [[None] * 4, [9, 8, 7, 6], [3, 0, 1, 2], [2, 0, 3, 1]])
def test_a_question_asked_twice_takes_its_answers_in_order(
    tmp_path: Path, ids: list[int | None]
) -> None:
    joke = ["Tell a joke.", "Name a river.", "Tell a joke.", "Name a sea."]
    rows = [row(t, f"{n}", id=i) for n, (t, i) in enumerate(zip(joke, ids, strict=True))]
    found = read(tmp_path, questions(*joke), *rows)
    assert texts(found) == {"0": ["0"], "1": ["1"], "2": ["2"], "3": ["3"]}
    with pytest.raises(BadInput, match="line 5: expected one answer to each question"):
        read(tmp_path, questions(*joke), *rows, row("Tell a joke.", "more"))


def test_agreeing_ids_tell_repeated_questions_apart(tmp_path: Path) -> None:
    rows = [row("Tell a joke.", "second", id=1), row("Tell a joke.", "first", id=0)]
    found = read(tmp_path, questions("Tell a joke.", "Tell a joke."), *rows)
    assert texts(found) == {"1": ["second"], "0": ["first"]}


def test_null_answers_and_foreign_rows_are_counted(tmp_path: Path) -> None:
    rows = [
        row(RIVERS[0], None),
        row(RIVERS[1], ""),
        row("Name a sea.", "d"),
        row(RIVERS[2], float("nan"), generator="mine"),
    ]
    found = read(tmp_path, questions(*RIVERS), *rows)
    assert texts(found) == {"1": [""]}
    assert found.left_out == {FOREIGN: 1, NULL: 2}
    assert found.model == "mine"


REFUSED = {
    "an id with another text": (
        [row("Name a sea.", "x", id=1)],
        "line 1: expected the text of question 1, 'Name river 10.', found Name a sea.",
    ),
    "rows numbered from 1": (
        [row(None, o, id=i + 1) for i, o in enumerate("abc")],
        "expected ids from 0 to 2 or the questions' texts, found ids from 1 to 3",
    ),
    "one id twice": ([row(None, "a", id=1), row(None, "b", id=1)], "line 2: expected one answer"),
    "two models": (
        [row(RIVERS[0], "a", generator="x"), row(RIVERS[1], "b", generator="y")],
        "expected the outputs of one model, found 2: x, y",
    ),
    "a number": ([row(RIVERS[0], 3)], "field 'output': expected a text"),
    "no answer": ([{"instruction": RIVERS[0]}], "field 'output': expected an answer"),
    "no turn": ([{"id": 0, "turns": []}], "field 'turns': expected a text"),
    "two turns": ([{"id": 0, "turns": ["a", "b"]}], r"expected 1 answers \(one a turn\), found 2"),
    "messages that are no objects": (
        [{"id": 0, "messages": ["Hi"]}],
        r"line 1, field 'messages\[0\]': expected an object, found Hi",
    ),
    "choices of an unknown layout": (
        [{"id": 0, "choices": [{"index": 0, "delta": {"content": "a"}}]}],
        r"field 'choices\[0\]': expected turns, message or text, found fields \['index', 'delta'\]",
    ),
    "a message that is no text": (
        [{"id": 0, "choices": [{"message": {"content": [{"type": "text", "text": "a"}]}}]}],
        "field 'choices': expected a text",
    ),
    "an object without a text": (
        [{"id": 0, "response": {"body": {"choices": []}}}],
        "field 'response': expected a text",
    ),
    "a sampler without a name": (
        [row(RIVERS[0], "a", sampler={})],
        r"field 'sampler\.model': expected a model's name, found None",
    ),
    "a list of names": (
        [row(RIVERS[0], "a", generator=["m"])],
        "field 'generator': expected a text",
    ),
    "half a character": (
        [row(RIVERS[0], "\ud83d")],
        r"field 'output': expected a text, .*, found '\\ud83d'",
    ),
    "nothing of these questions": ([row("Name a sea.", "x")], "found none in 1 rows"),
    "null answers alone": ([row(RIVERS[0], None)], "found none in 1 rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_joined_is_refused(tmp_path: Path, name: str) -> None:
    rows, message = REFUSED[name]
    with pytest.raises(BadInput, match=message):
        read(tmp_path, questions(*RIVERS), *rows)


def test_ids_that_are_one_off_are_refused_either_way(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"expected ids from 1 to 3 .*, found ids from 0 to 2"):
        read(tmp_path, questions(*RIVERS, first=1), *[row(None, "a", id=i) for i in range(3)])
    with pytest.raises(BadInput, match=r"expected ids from 0 to 2 .*, found ids from 1 to 3"):
        read(tmp_path, questions(*RIVERS), *[row(None, "a", id=i) for i in (1, 2, 3)])
    some = read(tmp_path, questions(*RIVERS, first=1), *[row(None, "a", id=i) for i in (1, 2)])
    assert set(some.turns) == {"1", "2"}


def test_answers_of_two_models_are_not_one_models_whatever_its_name(tmp_path: Path) -> None:
    file = tmp_path / "mixed.json"
    file.write_text(json.dumps([row(RIVERS[0], "a", generator="g"),
                                row(RIVERS[1], "b", generator="h")]))  # fmt: skip
    with pytest.raises(BadInput, match="the outputs of one model, found 2: g, h"):
        read_outputs(file, questions(*RIVERS), "mine")


def test_failed_calls_and_further_choices_are_counted(tmp_path: Path) -> None:
    """FastChat writes $ERROR$ where a server failed (lm-sys/FastChat common.py)."""
    choices = [{"index": i, "turns": [text]} for i, text in enumerate(("a", "b"))]
    found = read(
        tmp_path, questions(*RIVERS), row(RIVERS[0], "$ERROR$"),
        {"question_id": 1, "choices": choices},
    )  # fmt: skip
    assert texts(found) == {"1": ["a"]}
    assert found.left_out == {NULL: 1, FURTHER: 1}


@pytest.mark.parametrize(
    ("turns", "kept"),
    [(["a", "$ERROR$"], ["a"]), (["a", None], ["a"]), (["a", "ERROR"], ["a"]),
     (["a", ""], ["a", ""]), (["$ERROR$", "b"], None), (["$ERROR$", "$ERROR$"], None),
     ([None], None)],
)  # fmt: skip
def test_the_turns_before_a_failed_one_are_kept(
    tmp_path: Path, turns: list[str | None], kept: list[str] | None
) -> None:
    rows = [
        {"question_id": i, "choices": [{"turns": t}]} for i, t in enumerate([turns, ["c", "d"]])
    ]
    asked = questions("one", "two", follow_ups=("and then?",))
    found = read(tmp_path, asked, *rows)
    assert texts(found) == {**({} if kept is None else {"0": kept}), "1": ["c", "d"]}
    late = kept is not None and len(kept) < 2
    assert found.left_out == ({NULL: 1} if kept is None else {LATER_NULL: 1} if late else {})
    assert (found.last(asked[0]) is None) == (kept is None or late)


def test_an_answer_may_say_error_outside_fastchats_layout(tmp_path: Path) -> None:
    assert texts(read(tmp_path, questions("a"), row("a", "ERROR"))) == {"0": ["ERROR"]}


@pytest.mark.parametrize("name", ["mine.csv", "mine.tsv", "MINE.CSV.gz"])
def test_the_empty_cells_of_a_table_are_null_answers(tmp_path: Path, name: str) -> None:
    mark = "\t" if "tsv" in name else ","
    text = f"instruction{mark}output\na{mark}so 5\nb{mark}\nc{mark}  \n".encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    found = read_outputs(tmp_path / name, questions("a", "b", "c"))
    assert texts(found) == {"0": ["so 5"]}
    assert found.left_out == {NULL: 2}


def test_an_empty_text_of_json_is_an_answer(tmp_path: Path) -> None:
    assert texts(read(tmp_path, questions("a"), row("a", ""))) == {"0": [""]}


def test_an_answer_too_many_names_its_question(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"line 2: expected one answer .*, found another to question 1"
    ):
        read(tmp_path, questions(*RIVERS), row(None, "a", id=1), row(None, "b", id=1))


def test_an_error_says_how_many_answers_are_null(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"found none in 2 rows \(2 null\)"):
        read(tmp_path, questions("a", "b"), row("a", None), row("b", None))


@pytest.mark.parametrize(("field", "value"), [("finish", "length"), ("finish_reason", "length")])
def test_answers_that_were_cut_off_are_known_as_such(
    tmp_path: Path, field: str, value: str
) -> None:
    rows = [row("a", "so 5", **{field: value}), row("b", "so 6", **{field: "stop"})]
    found = read(tmp_path, questions("a", "b"), *rows)
    assert [turns[-1].finish for turns in found.turns.values()] == ["length", "stop"]
