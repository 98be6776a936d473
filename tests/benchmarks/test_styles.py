"""Principles of style that a program checks, as `instructable_reward` uses them."""

from __future__ import annotations

import pytest

from alignlab.feedback.principles import read_negated
from alignlab.feedback.specs import judge
from alignlab.types import Message, Prompt, Response, SampledBy, Score
from tests.conftest import ROOT

LIST = "Some fruits, for example:\n- apples\n- pears"
ADDRESSED = "Would you like 3 of them? Here they are."
TEXTS = ("", LIST, ADDRESSED, "1. Peel\n2. Cut")
MARKS = {
    "lists": [0, 1, 0, 1],
    "numbers": [0, 0, 1, 0],
    "examples": [0, 1, 0, 0],
    "addressing": [0, 0, 1, 0],
    "questions": [0, 0, 1, 0],
    "brief": [1, 1 - 8 / 60, 1 - 9 / 60, 1 - 4 / 60],
    "followed": [0, 2 / 5, 3 / 5, 1 / 5],
}


@pytest.mark.parametrize(("principle", "marks"), MARKS.items())
def test_marks_by_hand(principle, marks):
    spec = f"python:{ROOT}/benchmarks/styles.py:{principle}"
    source = judge(spec, make_completer=lambda _: pytest.fail("asks no model"))
    prompt = Prompt("p", (Message("user", "Name fruits."),))
    answers = [Response(f"r{i}", "p", text, SampledBy("m")) for i, text in enumerate(TEXTS)]
    found = [feedback.verdict for feedback in source.rate([(prompt, answers)], 0)]
    assert [v.value for v in found if isinstance(v, Score)] == pytest.approx(marks)


def test_each_principle_is_a_function():
    shown = [principle.text for principle in read_negated(ROOT / "benchmarks/styles.txt")]
    assert shown == [name for name in MARKS if name != "followed"]
