"""Exports hold every figure; verdicts are of the adjusted p-values."""

import csv
import io

import pytest

from alignlab.commands.report import print_as, tables
from alignlab.errors import BadInput
from alignlab.records import to_line
from alignlab.report.export import COLUMNS, compact, export
from alignlab.report.headline import verdict
from alignlab.report.run_data import read_run
from alignlab.types import EvalResult


def p_row(model, value, name="win_rate_p_holm"):
    return EvalResult(model, "head_to_head", name, value, None, None, 1188, 0, "M1")


@pytest.fixture
def tested(run_dir):
    """The made-up run with adjusted p-values: one win stands, one does not."""
    file = run_dir / "stages" / "summary" / "01-evaluate" / "results.jsonl"
    with file.open("a") as stream:
        for model, p in (("M2", 0.08), ("teacher reward", 0.001), ("length reward", 0.001)):
            stream.write(to_line(p_row(model, p)))
    return run_dir


def test_csv_holds_every_row_with_its_verdict(tested):
    lines = list(csv.DictReader(io.StringIO(export(tested, "csv"))))
    results = read_run(tested).results
    assert tuple(lines[0]) == COLUMNS
    assert len(lines) == len(results)
    rates = {line["model"]: line for line in lines if line["metric"] == "win_rate"}
    assert rates["M2"]["value"] == "0.555"
    assert (rates["M2"]["low"], rates["M2"]["high"]) == ("0.52", "0.59")
    assert (rates["M2"]["n"], rates["M2"]["unscored"], rates["M2"]["seeds"]) == (
        "1188",
        "12",
        "0 1 2",
    )
    assert rates["M2"]["verdict"] == "not distinguishable"
    assert rates["teacher reward"]["verdict"] == "better"
    assert rates["length reward"]["verdict"] == "worse"
    assert rates["M3"]["verdict"] == ""  # no p-value: nothing is said


def test_the_compact_table_comes_first(tested):
    head, _, rest = tables(tested).partition("\n\n")
    assert head == "**Win rate against M1, n = 1,188**"
    lines = rest.split("\n\n")[0].splitlines()
    assert lines[0] == "| model | win rate | 95% interval | verdict |"
    assert lines[2] == "| teacher reward | 63.0% | 59.2 to 66.7% | better |"
    assert lines[-1].startswith("| length reward | 35.0% |")
    assert "| M2 | 55.5% | 52.0 to 59.0% | not distinguishable |" in lines  # its p is 0.08
    latex = tables(tested, "latex")
    assert latex.startswith(r"\begin{longtable}{lrll}" + "\n" + r"\caption{Win rate against M1")
    assert r"teacher reward & 63.0\% & 59.2 to 66.7\% & better \\" in latex
    assert tables(tested, "csv").startswith("model,benchmark")


def test_a_run_without_win_rates_has_no_compact_table(tmp_path):
    (tmp_path / "manifest.json").write_text('{"recipe": "r"}')
    assert compact(tmp_path, "latex") == ""


def test_a_finding_needs_its_interval_and_its_p_value():
    wide = EvalResult("A", "head_to_head", "win_rate", 0.55, 0.49, 0.6, 100, 0, "M1")
    near = EvalResult("A", "head_to_head", "win_rate", 0.56, 0.51, 0.6, 100, 0, "M1")
    small, alone = p_row("A", 0.01), p_row("A", 0.2, "win_rate_p")
    assert verdict(near, [near, small]) == "better"
    assert verdict(wide, [wide, small]) == "not distinguishable"
    assert verdict(near, [near, alone]) == "not distinguishable"
    assert verdict(near, [near, small, alone]) == "better"  # the adjusted one decides
    assert verdict(small, [near, small]) is None


def test_latex_is_escaped(tested):
    text = export(tested, "latex")
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") > 3
    assert r"win\_rate" in text
    assert "win_rate" not in text
    assert "0.555 & 0.52 to 0.59 & 1188 & 12" in text


def test_markdown_has_a_table_for_every_benchmark(tested):
    text = export(tested, "markdown")
    for name in {r.benchmark for r in read_run(tested).results}:
        assert f"**{name}**" in text
    assert "| M2 | win_rate |" in text
    assert "0.52 to 0.59" in text


def test_a_form_is_chosen_once():
    assert print_as(2, markdown=False, csv=False, latex=False) is None
    assert print_as(2, markdown=True, csv=False, latex=False) == "markdown"
    with pytest.raises(BadInput, match="expected one of"):
        print_as(1, markdown=True, csv=True, latex=False)
    with pytest.raises(BadInput, match="expected one run, found 2"):
        print_as(2, markdown=False, csv=True, latex=False)
    with pytest.raises(BadInput, match="expected a run directory"):
        tables("/nowhere", "csv")
