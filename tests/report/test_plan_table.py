"""Costs of a run in its report: planned and actual, in total and by branch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from alignlab.commands._support.outcome import note_outcome, note_plan, stage_outcomes
from alignlab.plan import Plan, PlanAccuracy, Price, StageOutcome, StageTime, Time, label
from alignlab.report import run_data
from alignlab.report.plan_table import branch_of, cheapest, parts, planned
from alignlab.report.run_data import StageRecord, read_run
from alignlab.runs import Run, RunIdentity
from alignlab.types import EvalResult, StudyDescription, Usage

PLAN = Plan("r", "small", 2, "out", False, "m", (), {}, (),
            stages=(StageTime("01-m1", 8.0, 9.0), StageTime("self/01-judge", 4.0, 5.0)),
            time=Time(24.0, 28.0, "measured"), money=(Price("openai:x", 2.0),))  # fmt: skip


def finished(tmp_path) -> Run:
    """A run of two seeds: m1 takes 10 and 14 seconds, a branch's judging 2 and 4."""
    run = Run.start(tmp_path / "run", RunIdentity("r", {}, (0, 1)))
    note_plan(run, PLAN)
    times = {"seed-0/01-m1": 10, "seed-1/01-m1": 14, "seed-0/self/01-judge": 2,
             "seed-1/self/01-judge": 4}  # fmt: skip
    for name, seconds in times.items():
        folder = run.path / "stages" / name
        folder.mkdir(parents=True)
        usage = {"prompt_tokens": 100, "tokens": 10, "calls": 5}
        status = {"state": "done", "seconds": seconds, "cpu_seconds": seconds / 2, "usage": usage}
        (folder / "status.json").write_text(json.dumps(status))
    run.change_manifest(wall_seconds=30.0)
    return run


def test_stages_are_means_over_seeds(tmp_path):
    found = stage_outcomes(finished(tmp_path).path / "stages", PLAN)
    assert found == (
        StageOutcome("01-m1", 8.0, 12.0, 6.0),
        StageOutcome("self/01-judge", 4.0, 3.0, 1.5),
    )


def test_stages_that_a_plan_numbers_otherwise_are_found_by_name(tmp_path):
    stages = (StageTime("03-m1", 8.0, 9.0), StageTime("self/07-judge", 4.0, 5.0))
    found = stage_outcomes(finished(tmp_path).path / "stages", replace(PLAN, stages=stages))
    assert [(stage.stage, stage.predicted) for stage in found] == [
        ("01-m1", 8.0),
        ("self/01-judge", 4.0),
    ]


def test_the_manifest_states_the_error_of_the_plan(tmp_path):
    run = finished(tmp_path)
    cache = run.path / "cache"
    cache.mkdir()
    (cache / "spent.json").write_text(json.dumps({"openai:x": {"usd": 0.5}}))
    note_outcome(run)
    outcome = run.manifest()["outcome"]
    assert outcome["error"] == pytest.approx(24 / 30 - 1)
    assert (outcome["dollars"], outcome["most_dollars"]) == (0.5, 2.0)
    assert outcome["stages"][0]["predicted"] == 8.0
    note_plan(run, replace(PLAN, time=None))  # a resumed run keeps the first plan
    assert run.manifest()["plan"]["time"]["seconds"] == 24.0


def test_the_report_shows_plan_and_outcome(run_dir):
    run = read_run(run_dir)
    assert planned(run) is None
    outcome = PlanAccuracy(1000.0, 800.0, 2.0, 2.2, 0.5, 2.0)
    table = planned(replace(run, manifest=replace(run.manifest, outcome=outcome)))
    assert table is not None
    cells = {n: [c.value for c in row] for n, row in zip(table.names, table.rows, strict=True)}
    assert cells["Time"] == ["13 min", "17 min", "−20%"]
    assert cells["Memory of a process"] == ["2.2 GB", "2 GB", "+10%"]
    assert cells["Money"] == ["up to $2.00", "$0.50", "–"]


def test_branches_have_their_cost(tmp_path):
    run = finished(tmp_path)
    note_outcome(run)
    data = read_run_without_checks(run)
    table = parts(data)
    assert table is not None
    cells = {n: [c.value for c in row] for n, row in zip(table.names, table.rows, strict=True)}
    # Two seeds of 8 planned, 10 + 14 taken; of 4 planned, 2 + 4 taken.
    assert cells["shared by all"] == ["10", "200", "20", "16 s", "24 s", "12 s"]
    assert cells["self"] == ["10", "200", "20", "8 s", "6 s", "3 s"]
    assert table.rows[0][-1].shade == 0.8  # 12 of 15 seconds


RATES = {"rich": (0.62, 0.58, 0.66), "poor": (0.60, 0.55, 0.65), "worse": (0.56, 0.53, 0.59)}


def branches(paid: Mapping[str, float] = MappingProxyType({}), **verdicts: float):
    """A run of three branches: rich takes 900 tokens, poor 300, worse 100; p-values by model."""
    stages = tuple(
        StageRecord(
            f"seed-0/{name}_branch/01-{name}",
            "done",
            1.0,
            usage=Usage(tokens // 3, 2 * tokens // 3, 1, paid.get(name, 0.0)),
        )
        for name, tokens in (("rich", 900), ("poor", 300), ("worse", 100))
    )
    rows = [
        EvalResult(m, "duel", "win_rate", *figures, 400, 0, "M1") for m, figures in RATES.items()
    ]
    rows += [
        EvalResult(m, "duel", "win_rate_p_holm", p, None, None, 400, 0, "M1")
        for m, p in verdicts.items()
    ]
    return run_data.RunData(
        Path("r"), run_data.Manifest("r"), StudyDescription("r", "", "M1"), "", stages,
        tuple(rows), {}, (), (), (), {}, (), 0.0, True,
    )  # fmt: skip


def test_the_cheapest_branch_that_is_not_worse_is_named():
    run = branches(rich=0.001, poor=0.001, worse=0.01)
    table = parts(run)
    assert table is not None
    assert table.columns[-2:] == ("Best model", "Win rate")
    assert [c.value for c in table.rows[1]][-2:] == ["poor", "60.0%"]
    # The interval of poor reaches 62%, that of worse ends at 59%.
    assert cheapest(run).endswith(
        "is poor branch (300 tokens; poor, 60.0%); their difference is not tested."
    )
    alone = cheapest(branches(rich=0.001, poor=0.2, worse=0.01))
    assert alone.startswith("The best branch is also the cheapest of those that reach its win rate")
    assert cheapest(branches(rich=0.2, poor=0.2, worse=0.2)) == ""


def test_money_stands_with_each_branch_and_decides_which_is_the_cheapest():
    run = branches({"rich": 0.5, "poor": 0.75, "worse": 0.002}, rich=0.001, poor=0.001, worse=0.01)
    table = parts(run)
    assert table is not None
    assert table.columns[:4] == ("Calls", "Prompt tokens", "Tokens", "Money")
    assert [row[3].value for row in table.rows] == ["$0.50", "$0.75", "$0.002"]
    # The branch of fewer tokens is the dearer one here.
    assert cheapest(run) == (
        "The best branch is also the cheapest of those that reach its win rate: rich branch "
        "($0.50, 900 tokens; rich, 62.0%)."
    )
    assert "Money" not in parts(branches(rich=0.001)).columns


def read_run_without_checks(run: Run):
    """Read the stages and the manifest of a run whose stages hold no records."""
    manifest = run_data._typed(run_data.Manifest, run.path / "manifest.json")
    stages = tuple(
        run_data._stage(run.path, file) for file in run_data._files(run.path, "status.json")
    )
    empty = run_data.RunData(
        run.path, manifest, run_data.StudyDescription("r", "", ""), "", stages, (), {}, (), (),
        (), {}, (), 0.0, True,
    )  # fmt: skip
    return empty


def test_names_of_stages_and_branches():
    assert label("seed-3/self/01-judge") == "self/01-judge"
    assert label("01-m1") == "01-m1"
    assert branch_of("seed-0/self_reward/iteration-1/01-judge") == "self reward"
    assert branch_of("seed-0/01-m1") == "shared by all"
