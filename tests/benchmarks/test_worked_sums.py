"""Sums with their steps: rows in GSM8K's layout, and the value of each step."""

from __future__ import annotations

import pytest

from alignlab.data.check import check
from alignlab.feedback.specs import judge
from alignlab.types import Message, Prompt, Response, SampledBy, Score
from tests.benchmarks.test_scripts import script
from tests.conftest import ROOT

FILE = ROOT / "benchmarks/worked_sums.py"
SOLUTION = "3 + 8 = 11\n11 + 5 = 16\n16 + 7 = 23\n#### 23"

sums = script("worked_sums")


def test_a_row_is_a_question_with_its_worked_solution(tmp_path, monkeypatch, capsys):
    assert sums.row([3, 8, 5, 7]) == {
        "question": "Add step by step: 3 + 8 + 5 + 7 = ?",
        "answer": SOLUTION,
    }
    out = tmp_path / "sums.jsonl"
    monkeypatch.setattr("sys.argv", ["worked_sums.py", str(out), "--sums", "20", "--terms", "3"])
    sums.main()
    assert capsys.readouterr().out == "20 sums\n"
    assert len(set(out.read_text().splitlines())) == 20
    found = check(str(out))
    assert (found.source, found.records, found.problems) == ("gsm8k", {"demonstrations": 20}, ())


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        (SOLUTION, [1, 1, 1, 1]),
        ("3 + 8 = 12\n12 + 5 = 17\n17 + 7 = 24\n#### 24", [0, 0.5, 0.5, 0]),
        ("3 + 8 = 11\n3 + 8 = 11\nSo it is 23.\n#### 23", [1, 0, 0.5, 1]),
    ],
)
def test_values_of_steps_by_hand(answer, values):
    """A step of the solution is right once; a repeated one and a false sum are wrong."""
    prompt = Prompt("p", (Message("user", "3 + 8 + 5 + 7"),), reference=SOLUTION)
    source = judge(f"python:{FILE}:worth", make_completer=lambda _: pytest.fail("asks no model"))
    (rated,) = source.rate([(prompt, [Response("r", "p", answer, SampledBy("m"))])], 0)
    assert isinstance(rated.verdict, Score)
    assert list(rated.verdict.samples) == values
