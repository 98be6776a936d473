"""Query types of a study: what the labels say, what is not known, and one request alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.runs import Run
from alignlab.stages.prompt_types import KnownTypes, prompt_types
from alignlab.types import Unscored
from tests.stages.making import context, prompt

UNKNOWN = Unscored("the prompt's query type is not known")
ASKED = [replace(prompt(0), query_type="open"), replace(prompt(1), query_type="closed"), prompt(2)]


def test_labels_are_taken_and_the_unknown_counted(tmp_path: Path):
    found = prompt_types(context(tmp_path), "label", ASKED)
    assert found == {"p0": "open", "p1": "closed", "p2": UNKNOWN}
    (file,) = tmp_path.rglob("counts.jsonl")
    (count,) = map(json.loads, file.read_text().splitlines())
    assert (count["kept"], count["dropped"]) == (2, {UNKNOWN.reason: 1})
    assert KnownTypes(found).of(ASKED[::-1], 5) == [UNKNOWN, "closed", "open"]


def test_a_resumed_stage_reads_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = context(tmp_path)
    first = prompt_types(here, "random", ASKED)
    monkeypatch.setattr(
        "alignlab.feedback.query_types.RandomTypes.of", lambda *rest: pytest.fail("asked again")
    )
    assert prompt_types(replace(here, run=Run(tmp_path)), "random", ASKED) == first


def test_no_classifier_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="expected a query-type classifier"):
        prompt_types(context(tmp_path), str(tmp_path), ASKED)
