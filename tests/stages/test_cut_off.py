"""A teacher's answers that were cut off are noted, and the user is told."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from alignlab.redo import events
from alignlab.stages.demonstrate import warn_of_cut_off
from tests.stages.making import context, prompt, responses


def test_cut_off_answers_of_a_teacher_are_noted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = responses(prompt(0), "whole", "cut", "cut")
    here = context(tmp_path)
    with caplog.at_level(logging.WARNING):
        warn_of_cut_off(here, [one], "T")
        assert not caplog.records
        cut = [replace(r, finish="length") for r in (two, three)]
        warn_of_cut_off(here, [one, *cut], "T")
    assert "2 of 3 answers of T are learned though they were cut off" in caplog.text
    (noted,) = [e for e in events(here.run.path) if e["event"] == "cut_off"]
    assert (noted["of"], noted["answers"], noted["cut_off"]) == ("T", 3, 2)
