"""Head and ending of a study fit a terminal of 80 columns."""

from __future__ import annotations

from alignlab.commands._support.terminal import _table, ending, head
from alignlab.plan import Calls, Plan, PlanAccuracy, StageOutcome, StageTime, Time, Used
from alignlab.report.run_data import read_run
from alignlab.types import EvalResult
from tests.report.build_run import build_run

PLAN = Plan(
    recipe="compare_feedback",
    preset="small",
    seeds=2,
    out="runs/mine",
    resumes=False,
    model="/models/a-model: llama, 134,515,008 parameters, context of 8,192 tokens",
    data=(Used("demonstrations", 24, 300), Used("ranked groups", 12, 600)),
    models={f"M2 feedback number {n}": "M1 after DPO" for n in range(8)},
    calls=(Calls("answers", "the study's models", 408, 9_000),),
    stages=(StageTime("01-m1", 60.0, 90.0),),
    time=Time(1200.0, 2400.0, "speeds measured on this machine (once, 20 s)"),
)


def test_the_head_names_question_folder_models_and_time():
    text = head(PLAN, "Which feedback makes this model better?")
    lines = text.splitlines()
    assert lines[0] == "Which feedback makes this model better?"
    assert "  folder    writes runs/mine, 2 seeds" in lines
    assert "about 20 min (14 min to 26 min)" in text
    assert "408 answers by the study's models" in text
    assert max(map(len, lines)) <= 80


def test_the_ending_answers_and_says_where_to_go_on(tmp_path):
    run = build_run(tmp_path / "run")
    text = ending(read_run(run))
    lines = text.splitlines()
    assert (run / "report.html").resolve().as_uri() in text
    assert "better" in lines[0]
    assert "alignlab compare" in text
    short = [line for line in lines if str(run) not in line and "file://" not in line]
    assert max(map(len, short)) <= 80


def test_an_outcome_says_how_wrong_the_plan_was():
    outcome = PlanAccuracy(1000.0, 800.0, 2.0, 1.9, 0.0, 0.0)
    assert str(outcome) == "took 17 min, predicted 13 min (-20%)"
    shared = PlanAccuracy(1000.0, 800.0, 2.0, 1.9, 0.0, 0.0, (StageOutcome("m1", 8.0, 10.0, 4.0),))
    assert str(shared).endswith("; other programs held the cores for 60% of it")
    assert str(PlanAccuracy(40.0, 0.0, 2.0, 1.9, 0.0, 0.0)) == "took 40 s"
    short = PlanAccuracy(165.0, 208.0, 2.0, 1.9, 0.0, 0.0)
    assert str(short) == "took 165 s, predicted 208 s (+26%)"


def test_the_table_keeps_the_models_that_the_question_names() -> None:
    rows = [
        EvalResult(f"M{n}", "head_to_head", "win_rate", 0.9 - n / 10, 0.0, 1.0, 400, 0, "M1")
        for n in range(2, 9)
    ]
    lines = _table(rows, rows, {"M8"})
    assert [line.split()[0] for line in lines[2:]] == ["M2", "M3", "M4", "M5", "M8", "and"]
    assert lines[-1] == "  and 2 more in the report"
