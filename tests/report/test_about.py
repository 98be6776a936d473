"""Facts, doubts and progress at the top of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from alignlab.report import about, labels, tables
from alignlab.report.line_chart import Point, line_chart
from alignlab.report.run_data import Manifest, RunData, StageRecord, words_of
from alignlab.text import without_folders
from alignlab.types import EvalResult, StudyDescription

PLAN = {
    "model": "/a/path/knows_all: llama, 908,928 parameters, context of 1,024 tokens",
    "data": [{"what": "prompts", "used": 1200}, {"what": "held-out prompts", "used": 400}],
    "stages": [{"stage": "m1"}, {"stage": "pairs/m2"}, {"stage": "coin/m2"}, {"stage": "sft/m2"}],
}


def test_model_and_data_are_named_without_folders() -> None:
    found = about.facts(Manifest("r", plan=PLAN), {"model": "sandbox:knows_all"})
    assert found == [("Base model", "knows_all, 0.9M parameters"), ("Held-out prompts", "400")]
    assert about.facts(Manifest("r"), {}) == []


@pytest.mark.parametrize(
    ("spec", "planned", "name"),
    [
        ("/models/smol.gguf", "/cache/gguf-1: llama, 134,515,008 parameters", "smol.gguf, 135M"),
        ("", "/models/big: llama, 8,030,261,248 parameters", "big, 8.0B"),
    ],
)
def test_sizes_of_base_models(spec: str, planned: str, name: str) -> None:
    assert about.base_model(spec, planned) == f"{name} parameters"


def row(metric: str, value: float, low: float, high: float, n: int = 20) -> EvalResult:
    against = "M1" if metric == "win_rate" else None
    return EvalResult("M2", "b", metric, value, low, high, n, 0, against)


def test_answers_cut_off_and_too_few_prompts_are_doubted() -> None:
    cut = row("cut_share", 0.4, 0.3, 0.5)
    assert about.doubts([cut, row("win_rate", 0.5, 0.3, 0.7)], "M1") == [
        "40.0% of the answers of M2 were cut off at the length limit.",
        "With 20 judged comparisons, win rates closer to one half than about 20 points cannot be "
        "told from it.",
    ]
    sure = [row("cut_share", 0.25, 0.2, 0.3), row("win_rate", 0.5, 0.45, 0.55, 400)]
    assert about.doubts(sure, "M1") == []


def test_an_unfinished_run_says_what_is_left_of_its_plan() -> None:
    stages = tuple(
        StageRecord(path, state)
        for path, state in [
            ("seed-0/m1", "done"), ("seed-1/m1", "done"), ("seed-0/pairs/m2", "done"),
            ("seed-1/pairs/m2", "running"), ("seed-0/coin/m2", "done"),
        ]
    )  # fmt: skip
    run = RunData(
        Path("r"), Manifest("r", seeds=(0, 1), plan=PLAN), StudyDescription("r", "", "M1"), "",
        stages, (), {}, (), (), (), {}, (), 0.0, False,
    )  # fmt: skip
    assert list(about.progress(run)) == [
        "4 stages are done",
        "under way: seed-1/pairs/m2",
        "left of the plan: coin/m2, sft/m2",
    ]
    whole = replace(run, stages=tuple(replace(s, state="done") for s in stages))
    assert "left of the plan: coin/m2, sft/m2" in list(about.progress(whole))


def test_differences_are_points_and_stages_are_words() -> None:
    assert [labels.points(v) for v in (0.0123, -0.0996, -0.0002)] == [
        "+1.2 pp",
        "−10.0 pp",
        "0.0 pp",
    ]
    assert labels.between(-0.05, 0.1, "recall_change") == "−5.0 to +10.0 pp"
    assert labels.between(0.5, 0.6, "win_rate") == "50.0 to 60.0%"
    models = ("M2 (3 samples)", "M2")
    assert words_of("seed-0/self_reward/01-m2-3-samples", models) == "M2 (3 samples)"
    assert words_of("05-answer-m2", models) == "answer M2"
    assert words_of("pairs/iteration-1/02-pair", models) == "pair (pairs, iteration 1)"
    assert labels.explained(["M1 after DPO, expected score"]) == [
        ("DPO", labels.EXPLAINED["DPO"]),
        ("expected score", labels.EXPLAINED["expected score"]),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("by expected:local:/a/b/smol?dtype=x (135M).", "by expected:local:smol?dtype=x (135M)."),
        ("by llm:openai:m@http://host:8000/v1.", "by llm:openai:m@http://host:8000/v1."),
        ("reward_model:/rm, longer", "reward_model:rm, longer"),
    ],
)  # fmt: skip
def test_models_are_named_without_their_folders(text: str, shown: str) -> None:
    assert without_folders(text) == shown


def test_single_dots_are_numbered_and_named_on_one_colour() -> None:
    dots = [[Point(0.0, 1.0)], [Point(0.1, 1.0)], [Point(9.0, 5.0)]]
    chart = line_chart("t", dots, dots=True, names=["M1", "M2", "M3"])
    found = [line.dots[0] for line in chart.lines]
    assert [d.name for d in found] == ["1", "2", "3"]
    assert [d.is_left for d in found] == [True, False, False]  # the second is right of the first
    assert {line.series for line in chart.lines} == {0}
    assert chart.names == ("M1", "M2", "M3")


def test_adjacent_charts_share_the_vertical_axis() -> None:
    low, high = [Point(0.0, 0.0), Point(1.0, 1.0)], [Point(0.0, 4.0), Point(1.0, 5.0)]
    one, other = (line_chart("t", [line], adjacent=[low, high]) for line in (low, high))
    assert [t.label for t in one.y_ticks] == [t.label for t in other.y_ticks]
    assert one.y_ticks[0].label == "0"
    assert one.y_ticks[-1].label == "5"


def test_a_metric_against_two_models_has_two_columns() -> None:
    rows = [
        EvalResult("M2", "qa", "accuracy_change", 0.472, 0.395, 0.55, 309, 0, "M1"),
        EvalResult("M3", "qa", "accuracy_change", 0.498, 0.421, 0.576, 309, 0, "M1"),
        EvalResult("M2", "qa", "accuracy_change", -0.026, -0.065, 0.013, 309, 0, "M3"),
    ]
    table = tables.by_metric(rows)
    assert table.columns[:2] == ("Change of accuracy, against M1", "Change of accuracy, against M3")
    assert [cell.value for cell in table.rows[0][:2]] == ["+47.2 pp", "−2.6 pp"]
    assert [cell.value for cell in table.rows[1][:2]] == ["+49.8 pp", "–"]
    assert tables.by_metric(rows[:2]).columns[0] == "Change of accuracy"


def test_a_p_value_is_never_shown_as_zero():
    assert labels.number(0.0004, "win_rate_p_holm") == "under 0.001"
    assert [labels.number(p, "p-value") for p in (0.0, 0.0006, 0.04)] == [
        "under 0.001", "0.001", "0.040",
    ]  # fmt: skip
    assert labels.number(0.0004, "kl_step") == "0.000"  # no p-value
