"""Studies whose critic compares with reference answers, and studies without held-out prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab.recipes.study import WarmStart
from alignlab.types import Checkpoint, Corpus, Demonstration, Message, Prompt, Response, SampledBy

COMPARE = ("compare_objectives", "model=sandbox:knows_all", "feedback=metric:chrf",
           "measure.judge=metric:chrf", "branches=[sft,dpo]")  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Name town {n}.", "completion": f"It is Tokora {n}."} for n in range(40)]
    return write(tmp_path / "shown.jsonl", rows)


def test_a_demonstration_s_answer_is_the_reference_of_its_prompt():
    prompt = Prompt("p", (Message("user", "Hi"),))
    corpus = Corpus("c", (Demonstration(prompt, Response("r", "p", "Hello.", SampledBy("m"))),))
    m0 = Checkpoint("M0", "m0")
    start = WarmStart(corpus, m0, m0, m0, ())
    assert [(p.text, p.reference) for p in start.feedback_prompts] == [("Hi", "Hello.")]
    own = (Prompt("q", (Message("user", "Ho"),)),)
    assert WarmStart(corpus, m0, m0, m0, own).feedback_prompts == own


def test_demonstrations_are_asked_where_there_are_no_other_prompts(alignlab, shown):
    ended = alignlab("check", *COMPARE, f"data={shown}?test_share=0.3", "--rough")
    assert ended.code == 0, ended.err
    assert "scores by metric:chrf" in ended.out


def test_prompts_without_references_are_refused_before_anything_is_trained(
    alignlab, shown, tmp_path
):
    asked = write(tmp_path / "asked.jsonl", [{"prompt": f"Where is {n}?"} for n in range(8)])
    out = tmp_path / "run"
    data = (f"data={shown}?test_share=0.3", f"prompts={asked}", f"out={out}")
    ended = alignlab("run", *COMPARE, *data)
    assert ended.code == 2
    assert "feedback=metric:chrf: expected prompts with reference answers" in ended.line
    assert "found none among 8" in ended.line
    assert not out.exists()


def test_a_study_without_held_out_prompts_is_refused(alignlab, shown, tmp_path):
    out = tmp_path / "run"
    ended = alignlab("run", *COMPARE, f"data={shown}", f"out={out}")
    assert ended.code == 2
    assert "expected held-out prompts to measure on, found none" in ended.line
    assert not out.exists()
