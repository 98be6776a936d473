"""Counts of texts that are hardly what an author wrote."""

from __future__ import annotations

from typing import Any

import pytest

from alignlab.data import check, load
from alignlab.data.build_records import FAILED
from alignlab.data.remarks import EMPTY_CELL, REPEATED
from tests.data.conftest import Write

ASKED = "Name a fruit that is red."


def changed(write: Write, row: dict[str, Any]) -> dict[str, int]:
    corpus = load(str(write([row])))
    return dict(next(count for count in corpus.counts if count.what == "records").changed)


@pytest.mark.parametrize("text", ["nan", "NaN", "None", "NULL", "<NA>", "#REF!", " #N/A "])
def test_a_tools_empty_cell_is_counted(write: Write, text: str) -> None:
    assert changed(write, {"prompt": ASKED, "completion": text}) == {EMPTY_CELL: 1}
    assert changed(write, {"prompt": text, "chosen": "a", "rejected": "b"}) == {EMPTY_CELL: 1}
    assert EMPTY_CELL in str(check(str(write([{"prompt": ASKED, "completion": text}]))))


@pytest.mark.parametrize("text", ["Nan, my grandmother", "None of these", "#hashtag", "N/A yet"])
def test_texts_that_hold_such_a_word_are_texts(write: Write, text: str) -> None:
    assert changed(write, {"prompt": ASKED, "completion": text}) == {}


def test_answers_that_repeat_their_prompt_are_counted(write: Write) -> None:
    whole = f"{ASKED} A cherry."
    assert changed(write, {"prompt": ASKED, "completion": whole}) == {REPEATED: 1}
    assert changed(write, {"prompt": ASKED, "completion": ASKED}) == {}
    pair = {"prompt": ASKED, "chosen": whole, "rejected": f"{ASKED} A lime."}
    assert changed(write, pair) == {REPEATED: 1}
    assert changed(write, {**pair, "rejected": "A lime."}) == {}
    assert changed(write, {"prompt": "Say hi", "completion": "Say hi to her."}) == {}
    turns = [{"role": "user", "content": "Hi"}, {"role": "user", "content": ASKED}]
    assert changed(write, {"prompt": turns, "completion": whole}) == {REPEATED: 1}
    assert changed(write, {"prompt": ASKED}) == {}


FAILED_TEXTS = [
    "$ERROR$",
    "**NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE.**",
]


@pytest.mark.parametrize("text", FAILED_TEXTS)
def test_the_answer_of_a_failed_server_is_dropped_and_counted(write: Write, text: str) -> None:
    good = {"prompt": "Name a sea.", "completion": "The Baltic"}
    for row in (
        {"prompt": ASKED, "completion": text},
        {"prompt": ASKED, "completion": text, "label": False},
        {"prompt": ASKED, "completion": text, "feedback": "What is this?"},
    ):
        rest = {key: row[key] for key in row.keys() - good.keys()}
        count = load(str(write([row, {**good, **rest}]))).counts[-1]
        assert (count.kept, dict(count.dropped)) == (1, {FAILED: 1})
    pairs = [{"prompt": ASKED, "chosen": "An apple.", "rejected": text},
             {"prompt": "Name a sea.", "chosen": "The Baltic", "rejected": "The Nile"}]  # fmt: skip
    count = load(str(write(pairs))).counts[-1]
    assert (count.kept, dict(count.dropped)) == (1, {FAILED: 1})
