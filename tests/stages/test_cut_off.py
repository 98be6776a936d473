"""A teacher's answers that were cut off are counted, and the user is told."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from alignlab.stages.demonstrate import count_cut_off
from tests.stages.making import context, prompt, responses


def test_cut_off_answers_of_a_teacher_are_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = responses(prompt(0), "whole", "cut", "cut")
    here = context(tmp_path)
    with caplog.at_level(logging.WARNING):
        count_cut_off(here, [one], "T")
        assert not caplog.records
        cut = [replace(r, finish="length") for r in (two, three)]
        count_cut_off(here, [one, *cut], "T")
    assert "2 of 3 answers of T are imitated though they were cut off" in caplog.text
    (file,) = tmp_path.rglob("counts.jsonl")
    line = json.loads(file.read_text())
    assert (line["kept"], line["changed"]) == (3, {"cut off at the token limit": 2})
