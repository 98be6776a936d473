"""An instructor's questions and worked answers: what is shown, filtered, checked, counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from alignlab.feedback.teachers import Criticised, Instructor
from alignlab.feedback.verifier import Verifier
from alignlab.generation.scripted import ScriptedEngine
from alignlab.stages.instructors import (
    InstructSettings,
    Material,
    checked_answers,
    exchanged_answers,
    new_questions,
    worked_answers,
)
from alignlab.types import Demonstration, Message, Prompt
from tests.stages.making import context, prompt, responses


def question(n: int, text: str) -> Prompt:
    return replace(prompt(n), messages=(Message("user", text),))


WRONG = question(0, "What is two plus three?")
KNOWN = [
    question(1, "What is two plus four?"),
    question(2, "What colour is a leaf?"),
    question(3, "What is nine plus three?"),
]


def error(number: int = 0) -> Criticised:
    (response,) = responses(WRONG, "six")
    return Criticised(WRONG, replace(response, id=f"{response.id}/{number}"), "Right: five")


def counts(path: Path, stage: str) -> list[dict]:
    (file,) = path.glob(f"stages/*-{stage}/counts.jsonl")
    return [json.loads(line) for line in file.open()]


def shown_to(how: str, neighbours: int, tmp_path: Path) -> str:
    seen = []

    def write(request, sample):
        seen.append(request.messages[0].content)
        return "Question: What is one plus one?"

    known = [(p, responses(p, "right")[0]) for p in KNOWN]
    given = Material([error()], known)
    settings = InstructSettings(neighbours=neighbours)
    new_questions(context(tmp_path), ScriptedEngine(write), given, settings, how=how)
    (text,) = seen
    return text


def test_what_the_instructor_sees(tmp_path: Path):
    alone = shown_to("error", 3, tmp_path / "a")
    assert "six" in alone
    assert "Right: five" in alone
    assert "leaf" not in alone
    mimic = shown_to("mimic", 3, tmp_path / "b")
    assert "two plus three" in mimic
    assert "six" not in mimic
    two = shown_to("contrast", 2, tmp_path / "c")
    assert "- What is two plus four?\n- What is nine plus three?" in two
    assert "right" not in two.split("<examples>")[1]
    assert "leaf" not in two
    one = shown_to("contrast", 0, tmp_path / "d")
    assert "What is two plus four?" in one
    assert "right" in one  # the answer of the nearest


def test_leaks_and_duplicates_are_dropped_and_counted(tmp_path: Path):
    texts = [
        "What is one plus nine?",
        "What is one plus nine?",  # a duplicate
        "What is two plus four?",  # known
        "How deep is the lake of Orvane?",  # reserved
        "What is the sum of seven and the number after it in order?",  # held out, one word changed
    ]

    def write(request, sample):
        return f"Question: {texts[int(request.id.split('/')[-1])]}"

    held_out = [question(9, "What is the sum of eight and the number after it in order?")]
    given = Material([error(i) for i in range(5)], (), KNOWN, held_out, ("Orvane",))
    found = new_questions(
        context(tmp_path), ScriptedEngine(write), given, InstructSettings(), how="error"
    )
    assert [p.text for p in found] == ["What is one plus nine?"]
    (filtered,) = counts(tmp_path, "instruct-filtered")
    assert filtered["dropped"] == {"duplicate": 2}
    (leaks,) = counts(tmp_path, "leaks")
    assert leaks["dropped"]["about what is held out"] == 1
    assert sum(leaks["dropped"].values()) == 2


def test_a_wrong_worked_answer_is_dropped(tmp_path: Path):
    asked = [replace(p, reference="#### 7") for p in KNOWN]
    right, wrong, _ = (responses(p, t)[0] for p, t in zip(asked, "789", strict=True))
    kept = checked_answers(context(tmp_path), asked, [right, wrong], Verifier())
    assert [(d.prompt.id, d.response.text) for d in kept] == [("p1", "7")]
    (count,) = counts(tmp_path, "checked")
    assert count["dropped"] == {"wrong answer": 1, "no answer": 1}


def test_agreement_takes_most_of_the_further_answers(tmp_path: Path):
    replies = {"p1": ["#### 7", "#### 7", "#### 8", "so #### 7"], "p2": ["#### 1", "#### 2"] * 2}
    engine = ScriptedEngine(lambda request, sample: replies[request.id][sample])
    here, asked = context(tmp_path), KNOWN[:2]
    answers = worked_answers(here, engine, asked, InstructSettings(), further=3)
    assert len(answers) == 8
    kept = checked_answers(here, asked, answers, Verifier(), agreement=True)
    # p1: two of three agree with 7. p2: one of three (2, 1, 2) agrees with 1.
    assert [(d.prompt.id, d.response.text) for d in kept] == [("p1", "#### 7")]
    assert kept[0].prompt.reference is None
    (count,) = counts(tmp_path, "checked")
    assert count["dropped"] == {"further answers disagree": 1}


def test_half_of_the_further_answers_is_not_most(tmp_path: Path):
    replies = ["#### 7", "#### 7", "#### 8"]
    engine = ScriptedEngine(lambda request, sample: replies[sample])
    here = context(tmp_path)
    answers = worked_answers(here, engine, KNOWN[:1], InstructSettings(), further=2)
    assert checked_answers(here, KNOWN[:1], answers, Verifier(), agreement=True) == []


def test_answers_that_were_cut_off_are_dropped_even_unchecked(tmp_path: Path):
    (one,) = responses(KNOWN[0], "7")
    kept = checked_answers(context(tmp_path), KNOWN[:1], [replace(one, finish="length")], None)
    assert kept == []
    (count,) = counts(tmp_path, "checked")
    assert count["dropped"] == {"the answer was cut off": 1}


def test_every_request_for_one_error_is_drawn_anew():
    ids = []

    def write(request, sample):
        ids.append(request.id)
        return "Question: Why?"

    Instructor(ScriptedEngine(write)).from_questions([error(0), error(1)], 0)
    assert ids == ["instruct|p0/M1/0/0", "instruct|p0/M1/0/1"]


def test_exchanged_answers_are_the_next_questions():
    shown = [Demonstration(p, responses(p, t)[0]) for p, t in zip(KNOWN, "abc", strict=True)]
    found = exchanged_answers(shown)
    assert [(d.prompt.id, d.response.text) for d in found] == [
        ("p1", "b"),
        ("p2", "c"),
        ("p3", "a"),
    ]
    assert [d.response.prompt_id for d in found] == ["p1", "p2", "p3"]
    assert exchanged_answers([]) == []
