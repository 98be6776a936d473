"""`alignlab compare` on two evaluations: tested where they share questions, judge and baseline."""

import csv
import io
import os

import pytest

import alignlab as al
from alignlab.commands.benchmark import run_benchmark
from alignlab.commands.compare import compare
from tests.evaluation.asking import jsonl

QUESTIONS = [{"question_id": i, "category": "writing", "turns": [f"Say {i}."]} for i in range(12)]


@pytest.fixture
def evaluated(tmp_path):
    """Evaluates answers of some lengths against a baseline; the longer answer wins."""
    data = jsonl(tmp_path / "questions.jsonl", *QUESTIONS)

    def run(name, own, base, questions=data):
        files = {
            who: jsonl(
                tmp_path / f"{name}-{who}.jsonl",
                *[{"id": i, "output": "word " * (length + i)} for i in range(12)],
            )
            for who, length in (("own", own), ("base", base))
        }
        run_benchmark(
            "vicuna_bench",
            outputs=f"{name}={files['own']}",
            baseline=f"base={files['base']}",
            data=questions,
            judge="longer",
            out=tmp_path / name,
        )
        return tmp_path / name

    return run


def test_two_evaluations_are_compared_by_question(evaluated):
    page = compare(evaluated("short", 5, 10), evaluated("long", 15, 10)).page.read_text()
    assert "long: long − short: short" in page
    assert "Vicuna-Bench: judged" in page
    assert "1.00" in page  # from every verdict lost to every verdict won
    assert ">better<" in page
    assert "Not comparable" not in page


def test_settings_differences_and_flips_are_printed(alignlab, evaluated, tmp_path):
    short, long = evaluated("short", 5, 10), evaluated("long", 15, 10)
    page = tmp_path / "both.html"
    ended = alignlab("compare", short, long, "--map", "short:long", "--out", page)
    assert ended.code == 0
    settings, differences = ended.out.split("Paired differences: long less short")
    assert "outputs" in settings
    (row,) = [line for line in differences.splitlines() if line.endswith("better")]
    assert row.split()[:5] == ["long:", "long", "−", "short:", "short"]
    assert "1 of 1 paired difference stands: long: long is better than short: short" in differences
    assert " 1 " in row  # from every verdict lost to every verdict won
    assert ended.out.splitlines()[-1] == f"report: {os.path.relpath(page)}"
    text = page.read_text()
    assert text.index("Settings that differ") < text.index("Differences</h2>")
    assert not (tmp_path / "compare.html").exists()
    alone = alignlab("compare", short, long, "--out", page)
    assert alone.out == ended.out  # the only models are paired
    found = al.compare(short, long, map={"short": "long"}, out=page)
    assert found.differences[0]["verdict"] == "better"
    assert {row["setting"] for row in found.settings} >= {"outputs"}
    (flips,) = {row["by"] for row in found.flips}
    assert flips == "judged by longer"
    assert len(found.flips) == 12
    assert (found.flips[0]["old"], found.flips[0]["new"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--map", "short:nothing"), "map: long: expected one of long"),
        (("--map", "nothing:long"), "map: short: expected one of short"),
        (("--map", "short"), "map: expected MODEL:MODEL, found 'short'"),
        (("--out", "."), "--out: expected a file, found the folder ."),
    ],
)
def test_bad_comparisons_are_refused_in_one_line(alignlab, evaluated, tmp_path, given, says):
    short, long = evaluated("short", 5, 10), evaluated("long", 15, 10)
    ended = alignlab("compare", short, long, *given)
    assert ended.code == 2
    assert says in ended.line
    assert not (tmp_path / "compare.html").exists()


def test_another_baseline_is_not_compared(evaluated):
    page = compare(evaluated("short", 5, 10), evaluated("long", 15, 20)).page.read_text()
    assert "Not comparable: long and short" in page


def test_every_figure_is_printed(alignlab, evaluated):
    run = evaluated("short", 5, 10)
    lines = list(csv.DictReader(io.StringIO(alignlab("report", str(run), "--csv").out.strip())))
    (rate,) = [r for r in lines if r["metric"] == "win_rate" and not r["part"]]
    assert float(rate["value"]) == 0.0
    assert rate["n"] == "12"
    assert alignlab("report", str(run), "--latex").out.startswith(r"\begin{longtable}")
    assert alignlab("report", str(run), "--csv", "--latex").code == 2
