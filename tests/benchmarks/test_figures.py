"""Figures of a run as a table, and scripts that end with one line where their input is unusable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.files import write_json
from tests.benchmarks.running import benchmark
from tests.benchmarks.test_scripts import script
from tests.conftest import ROOT

figures = script("figures")


def a_row(model: str, value: float | None = 0.5, **others: object) -> dict[str, object]:
    """Return a row of a summary: the mean score of a model."""
    return {
        "model": model, "benchmark": "score", "metric": "mean", "against": None, "group": None,
        "value": value, "low": None, "high": None, "n": 9, "unscored": 0, "seeds": [0],
    } | others  # fmt: skip


def a_run(path: Path, *rows: dict[str, object]) -> Path:
    path.mkdir(exist_ok=True)
    write_json(path / "summary.json", {"rows": list(rows)})
    return path


def test_models_stand_in_the_order_of_the_study_and_others_at_the_end(tmp_path: Path) -> None:
    run = a_run(tmp_path, a_row("old"), a_row("M2", None), a_row("M1", 0.25, low=0.1, high=0.4))
    write_json(run / "study.json", {"models": {"M1": "", "M2": "", "M3": ""}})
    assert figures.table(run, ["score/mean"]).splitlines()[2:] == [
        "| M1 | 0.250 [0.100, 0.400] |",
        "| M2 | none |",
        "| old | 0.500 |",
    ]


def test_a_figure_of_a_group_is_named_behind_an_at(tmp_path: Path) -> None:
    run = a_run(tmp_path, a_row("M1"), a_row("M1", 0.25, group="type:open"))
    line = figures.table(run, ["score/mean@type:open", "score/mean"]).splitlines()[2]
    assert line == "| M1 | 0.250 | 0.500 |"
    with pytest.raises(BadInput, match="expected a figure score/mean@type:closed, found none"):
        figures.table(run, ["score/mean@type:closed"])


def a_kept_run(path: Path, scores: list[float], outcomes: str) -> Path:
    """A kept run of two prompts and one left out; M1 is the baseline, with scores of 1."""
    a_run(path, a_row("M2"))
    manifest = {
        "recipe": "compare", "command": "alignlab run compare", "seeds": [0], "created": "",
        "wall_seconds": 60, "sha256": "", "commit": "abcdef1",
    }  # fmt: skip
    write_json(path / "manifest.json", manifest)
    values = {
        "prompts": ["p0", "p1", "p2"], "left_out": ["p2"],
        "scores": {"M1": {"0": [1, 1, 1]}, "M2": {"0": scores}},
        "outcomes": {"M2": {"0": outcomes}},
    }  # fmt: skip
    write_json(path / "values.json", values)
    return path


def test_a_comparison_is_with_the_one_other_model(tmp_path: Path) -> None:
    wins = {"benchmark": "head_to_head", "metric": "win_rate", "against": "M1"}
    run = a_run(tmp_path, a_row("M1"), a_row("M2"), a_row("M2", 0.75, **wins))
    both = figures.table(run, ["score/mean", "head_to_head/win_rate"]).splitlines()
    assert both[2:] == ["| M1 | 0.500 |  |", "| M2 | 0.500 | 0.750 |"]
    a_run(run, a_row("M2", 0.75, **wins), a_row("M2", 0.5, **wins | {"against": "M0"}))
    with pytest.raises(BadInput, match="expected one head_to_head/win_rate of M2, found two"):
        figures.table(run, ["head_to_head/win_rate"])
    a_run(run, a_row("M2", 0.25), a_row("M2", 0.75, against="M1"))
    assert figures.table(run, ["score/mean"]).splitlines()[2:] == ["| M2 | 0.250 |"]


def test_the_commands_of_the_pages_print_figures() -> None:
    found = 0
    for page in (ROOT / "docs").rglob("*.md"):
        text = page.read_text().replace("\\\n", " ")
        for words in map(
            str.split, re.findall(r"benchmarks/figures\.py (docs/runs/[^`#\n]+)", text)
        ):
            if "--pool" not in words:
                figures.table(ROOT / words[0], words[1:])
                found += 1
    assert found > 10


def test_seeds_of_kept_runs_are_pooled_without_the_prompts_left_out(tmp_path: Path) -> None:
    """Scores 3, 2 and 1, 2: mean 2; a win, a tie, a tie, a loss: one half."""
    runs = [
        a_kept_run(tmp_path / "a", [3, 2, 9], "1=1"),
        a_kept_run(tmp_path / "b", [1, 2, 9], "=01"),
    ]
    head, _, first, second = figures.pooled(
        runs, ["score/mean", "head_to_head/win_rate"]
    ).splitlines()
    assert head == "| model | score/mean | head_to_head/win_rate |"
    assert first == "| M1 | 1.000 [1.000, 1.000] |  |"
    assert second.startswith("| M2 | 2.000 [")
    assert "| 0.500 [" in second
    with pytest.raises(BadInput, match="text/words: expected one of score/mean"):
        figures.pooled(runs, ["text/words"])


def test_runs_without_figures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected the folder of a run, found none"):
        figures.table(tmp_path / "none", ["score/mean"])
    with pytest.raises(BadInput, match="expected a finished run"):
        figures.table(tmp_path, ["score/mean"])
    for row, says in (
        ({"model": "M1"}, r"summary\.json, field 'rows\[0\]\.benchmark': .* found no such field"),
        (a_row("M1", low=0.1), r"field 'rows\[0\]': expected a value with both bounds or none"),
        (a_row("M1") | {"value": "x"}, "expected a finite number or null, found 'x'"),
    ):
        with pytest.raises(BadInput, match=says):
            figures.table(a_run(tmp_path, row), ["score/mean"])
    with pytest.raises(BadInput, match="expected one score/mean of M1, found two"):
        figures.table(a_run(tmp_path, a_row("M1"), a_row("M1")), ["score/mean"])
    a_run(tmp_path, a_row("M1"))
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(BadInput, match=r"study\.json, field 'models': expected an object"):
        figures.table(tmp_path, ["score/mean"])


@pytest.mark.parametrize(
    "command",
    [
        ["figures.py", "BROKEN", "score/mean"],
        ["claims.py", "BROKEN", "M2 > M1", "--of", "*"],
        ["claims.py", "BROKEN", "M2 > M1"],
        ["kept_runs.py", "BROKEN", "OUT", "--commit", "abc1234"],
        ["refusal_card.py", "none/some.csv"],
        ["refusal_card.py", "BROKEN/some.csv", "--limit", "-5"],
        ["refusal_card.py", "BROKEN/some.csv", "--judge", "local:none"],
        ["best_of_16.py", "none.jsonl", "OUT"],
        ["best_of_16.py", "BROKEN/some.csv", "OUT"],
        ["judge_cards.py", "mine=none"],
        ["judge_cards.py", "mine=BROKEN"],
        ["judge_cards.py", "BROKEN"],
        ["rough_plans.py", "BROKEN"],
        ["rough_plans.py", "none"],
        ["tldr_posts.py", "none.csv.gz", "OUT"],
        ["tldr_posts.py", "BROKEN/posts.csv.gz", "OUT"],
        ["tldr_posts.py", "BROKEN/empty.csv", "OUT"],
        ["tldr_posts.py", "BROKEN/short.csv", "OUT"],
        ["tldr_posts.py", "BROKEN/blank.csv", "OUT"],
        ["tldr_posts.py", "BROKEN/some.csv", "BROKEN/some.csv"],
        ["worked_sums.py", "none/out.jsonl"],
    ],
)
def test_unusable_input_is_one_line_and_exit_code_2(tmp_path: Path, command: list[str]) -> None:
    broken, out = tmp_path / "broken", tmp_path / "out"
    broken.mkdir()
    for name, text in {
        "summary.json": "{",
        "study.json": "{",
        "posts.csv.gz": "not gzip",
        "empty.csv": "",
        "short.csv": "context,ref_text,sample\nOne.,short\n",
        "blank.csv": "context,ref_text\nOne., \n",
        "some.csv": "type,prompt\nhomonyms,a\n",
    }.items():
        (broken / name).write_text(text)
    before = {file.name: file.read_text() for file in broken.iterdir()}
    places = {"BROKEN": str(broken), "OUT": str(out)}
    given = [word.replace("BROKEN", places["BROKEN"]).replace("OUT", places["OUT"])
             for word in command]  # fmt: skip
    done = benchmark(*given)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not out.exists()
    assert {file.name: file.read_text() for file in broken.iterdir()} == before
