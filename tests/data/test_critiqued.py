"""Responses with feedback in words."""

from __future__ import annotations

import pytest

from alignlab.data import load
from alignlab.errors import BadInput
from alignlab.records import to_dict
from tests.data.conftest import Write

ROW = {"prompt": "Hi", "completion": "Hello!", "feedback": "Friendly."}


def test_feedback_is_read_and_what_has_none_is_counted(write: Write) -> None:
    corpus = load(str(write([ROW, {**ROW, "feedback": " "}, {**ROW, "completion": ""}, ROW])))
    (found,) = corpus.commented
    assert (found.prompt.text, found.response.text, found.comment) == ("Hi", "Hello!", "Friendly.")
    assert corpus.counts[-1].dropped == {
        "empty feedback": 1,
        "empty response": 1,
        "duplicate": 1,
    }


def test_two_comments_on_one_response_are_two_records(write: Write) -> None:
    corpus = load(str(write([ROW, {**ROW, "feedback": "Brief."}])))
    assert len({each.id for each in corpus.commented}) == 2


def test_a_stage_of_a_run_can_be_read_back(write: Write) -> None:
    corpus = load(str(write([ROW])))
    again = load(str(write([to_dict(each) for each in corpus.commented])))
    assert again.commented == corpus.commented


def test_feedback_must_be_text(write: Write) -> None:
    with pytest.raises(BadInput, match=r"line 1, field 'feedback': expected text, found 3"):
        load(str(write([{**ROW, "feedback": 3}])))
