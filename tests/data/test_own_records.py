"""alignlab's own records are read with the very types they were written with."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from alignlab.data import check, load
from alignlab.errors import BadInput
from alignlab.records import to_dict
from alignlab.types import (
    CritiquedResponse,
    Demonstration,
    Message,
    PreferenceGroup,
    Prompt,
    Response,
    SampledBy,
    Sampling,
    UnpairedPreference,
)
from tests.data.conftest import Write

PROMPT = Prompt("p1", (Message("system", "s"), Message("user", "Hi")), "test", query_type="open")


def response(n: int, text: str) -> Response:
    return Response(f"r{n}", "p1", text, SampledBy("m", Sampling(), 3))


GROUP = PreferenceGroup(PROMPT, (response(1, "good"), response(2, "bad")), (1.5, 0.0), "judge")
RECORDS = [
    GROUP,
    Demonstration(PROMPT, response(3, "do")),
    UnpairedPreference(PROMPT, response(4, "yes"), True),
    CritiquedResponse(PROMPT, response(5, "so"), "Fine."),
    PROMPT,
]
PLAIN = json.loads(json.dumps(to_dict(GROUP)))


def changed(path: str, value: Any, record: Any = PLAIN) -> dict[str, Any]:
    """The record with one value replaced (`responses.1.text`)."""
    made: dict[str, Any] = copy.deepcopy(record)
    place: Any = made
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = value
    return made


@pytest.mark.parametrize("record", RECORDS)
def test_what_was_written_is_read_back(write: Write, record: Any) -> None:
    corpus = load(str(write([to_dict(record)])))
    found = (*corpus.groups, *corpus.demonstrations, *corpus.labelled, *corpus.commented)
    assert (*found, *corpus.prompts) == (record,)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("scores.0", float("nan"), ""),
        ("scores.0", float("inf"), ""),
        ("scores.0", "1.5", "scores.0"),
        ("scores.0", True, "scores.0"),
        ("scores.0", None, "scores.0"),
        ("scores", [0.0, 1.5], ""),
        ("scores", [1.5], ""),
        ("responses", [], ""),
        ("responses.0.text", "", "responses.0.text"),
        ("responses.0.text", "\u200b\u2060", "responses.0.text"),
        ("responses.0.text", "\x00", "responses.0.text"),
        ("responses.1.text", "good", "responses.1.text"),
        ("responses.1.text", "good \u200b", "responses.1.text"),
        ("responses.1.text", 7, "responses.1.text"),
        ("responses.1.id", "r1", "responses.1.id"),
        ("responses.1.id", "", "responses.1.id"),
        ("responses.1.prompt_id", "p2", "responses.1.prompt_id"),
        ("responses.1.tokens", "12", "responses.1.tokens"),
        ("responses.1.finish", "done", "responses.1.finish"),
        ("responses.1.weight", 1, "responses.1.weight"),
        ("responses.1.sampler.sampling.temperature", "hot", "responses.1.sampler"),
        ("prompt.id", "", "prompt.id"),
        ("prompt.id", 3, "prompt.id"),
        ("prompt.messages", [], "prompt.messages"),
        ("prompt.messages.1.role", "assistant", "prompt.messages"),
        ("prompt.messages.1.role", "tool", "prompt.messages.1.role"),
        ("prompt.messages.1.content", " \u200d", "prompt.messages.1.content"),
        ("prompt.messages.1.tool_calls", [1], "prompt.messages.1.tool_calls"),
        ("prompt.query_type", "both", "prompt.query_type"),
        ("prompt", "Hi", "prompt"),
        ("source", None, "source"),
    ],
)
def test_bad_records_are_refused_on_one_line(
    write: Write, path: str, value: Any, field: str
) -> None:
    file = write(json.dumps(changed(path, value)) + "\n")
    (problem,) = check(str(file)).problems
    assert "\n" not in problem
    assert "line 1" in problem
    assert f"field '{field}" in problem or not field
    with pytest.raises(BadInput):
        load(str(file))


@pytest.mark.parametrize(
    ("record", "path", "value"),
    [
        (RECORDS[1], "response.text", ""),
        (RECORDS[1], "response.prompt_id", "another"),
        (RECORDS[2], "desirable", "true"),
        (RECORDS[2], "desirable", 1),
        (RECORDS[3], "comment", "\ufeff"),
        (RECORDS[4], "messages", [{"role": "assistant", "content": "x"}]),
        (RECORDS[4], "id", None),
    ],
)
def test_bad_records_of_other_kinds(write: Write, record: Any, path: str, value: Any) -> None:
    plain = changed(path, value, json.loads(json.dumps(to_dict(record))))
    assert len(check(str(write([plain]))).problems) == 1


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("prompt.messages.1.content", "Another", "prompt.id"),
        ("responses.0.text", "better", "responses.0.id"),
    ],
)
def test_an_id_names_one_thing(write: Write, path: str, value: str, field: str) -> None:
    (problem,) = check(str(write([PLAIN, changed(path, value)]))).problems
    assert f"line 2, field '{field}': expected an id that no other" in problem


def test_a_demonstration_of_a_known_id_is_not_dropped_as_a_duplicate(write: Write) -> None:
    plain = to_dict(RECORDS[1])
    other = changed("response.text", "another", json.loads(json.dumps(plain)))
    with pytest.raises(BadInput, match=r"line 2, field 'response\.id'"):
        load(str(write([plain, other])))


def test_several_pairs_of_one_prompt_are_read(write: Write) -> None:
    second = changed("responses.1.text", "worse")
    second["responses"][1]["id"] = "r9"
    assert len(load(str(write([PLAIN, second]))).groups) == 2


def test_a_long_text_of_the_data_does_not_fill_the_message(write: Write) -> None:
    plain = changed("prompt.id", "ä" * 5000)
    (problem,) = check(str(write([plain]))).problems
    assert "prompt_id" in problem
    assert len(problem) < 1500
