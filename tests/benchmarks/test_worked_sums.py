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
    monkeypatch.syspath_prepend(FILE.parent)
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
        ("3+8=11\n11 + 5 = 16.\n16  +  7 = 23 sheep\n#### 23.", [1, 1, 1, 1]),
        ("3 + 8 = 11\n3+8=11.\n8 + 3 = 11\n####23", [1, 0, 0.5, 1]),
        ("#### 23 sheep\n#### 23", [1, 0]),
        ("#### 23.5\n#### 24 sheep\n#### 23 or 24\n#### unknown\n#### 1,023", [0, 0, 0, 0, 0]),
        (f"1 + 1 = {'9' * 5000}\n3 + 8 = 11 + 5 = 16", [0, 0.5]),
    ],
)
def test_values_of_steps_by_hand(answer, values):
    """A step of the solution is right once; a repeated one and a false sum are wrong."""
    prompt = Prompt("p", (Message("user", "3 + 8 + 5 + 7"),), reference=SOLUTION)
    source = judge(f"python:{FILE}:worth", make_completer=lambda _: pytest.fail("asks no model"))
    (rated,) = source.rate([(prompt, [Response("r", "p", answer, SampledBy("m"))])], 0)
    assert isinstance(rated.verdict, Score)
    assert list(rated.verdict.samples) == values


@pytest.mark.parametrize("reference", [None, "", "23", "3 + 8 = 11"])
def test_an_answer_without_a_worked_solution_has_no_value(reference):
    assert sums.worth(["3 + 8 = 11"], reference) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--terms", "2", "--most", "3", "--sums", "10"], "--sums: expected at most 9 (--most 3, "
         "--terms 2), found 10"),
        (["--terms", "1"], "--terms: expected 2 or more, found 1"),
        (["--most", "0"], "--most: expected 1 or more, found 0"),
        (["--sums", "0"], "--sums: expected 1 or more, found 0"),
    ],
)  # fmt: skip
def test_sums_that_cannot_be_drawn_are_refused(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.syspath_prepend(FILE.parent)
    monkeypatch.setattr("sys.argv", ["worked_sums.py", str(tmp_path / "out.jsonl"), *arguments])
    with pytest.raises(SystemExit, match="2"):
        sums.main()
    assert capsys.readouterr().err == says + "\n"
    assert not list(tmp_path.iterdir())


def test_every_sum_can_be_asked_for(tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    monkeypatch.syspath_prepend(FILE.parent)
    arguments = ["--terms", "2", "--most", "3", "--sums", "9"]
    monkeypatch.setattr("sys.argv", ["worked_sums.py", str(out), *arguments])
    sums.main()
    assert len(set(out.read_text().splitlines())) == 9


def test_no_file_is_written_over(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(FILE.parent)
    (tmp_path / "there.jsonl").write_text("mine")
    for name, says in {
        "there.jsonl": "expected the name of a new file, found a file there",
        ".": "expected the name of a new file, found a folder there",
        "none/out.jsonl": f"expected a folder {tmp_path / 'none'}, found none",
        "out.jsonl.gz": "expected a name without .gz (plain text is written), found .gz",
    }.items():
        monkeypatch.setattr("sys.argv", ["worked_sums.py", str(tmp_path / name)])
        with pytest.raises(SystemExit, match="2"):
            sums.main()
        assert capsys.readouterr().err == f"{tmp_path / name}: {says}\n"
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]
