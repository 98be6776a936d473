"""The page's parts on scaling and on the alignment tax, and tested differences of two runs."""

from alignlab.records import to_line
from alignlab.report import write_report
from alignlab.report.run_comparison import compare_runs, paired_table
from alignlab.report.scaling_plot import panels, table
from alignlab.report.sections import by_category
from alignlab.report.tax_table import trade
from alignlab.types import EvalResult, Paired, ScalePoint
from tests.report.build_run import build_run

POINTS = [
    ScalePoint("score", "prompts", 100, 3.0, 2.8, 3.2, 400, "M2 on 25%"),
    ScalePoint("score", "prompts", 100, 3.1, 3.0, 3.2, 400),
    ScalePoint("score", "prompts", 400, 3.5, 3.3, 3.7, 400, "M2 on 100%"),
    ScalePoint("score", "prompts", 400, 3.4, 3.3, 3.5, 400),
]


def win(model, value, low, high):
    return EvalResult(model, "head_to_head", "win_rate", value, low, high, 400, 0, "M1")


def task(
    model, value, benchmark="lm_eval", metric="gsm8k exact_match (strict-match)", against=None
):
    return EvalResult(model, benchmark, metric, value, value - 0.02, value + 0.02, 100, 0, against)


def test_a_panel_has_the_fitted_line_and_the_measured_dots():
    (panel,) = panels(POINTS)
    fitted, measured = panel.lines
    assert fitted.dots == ()
    assert len(measured.dots) == 2
    assert [tick.label for tick in panel.x_ticks] == ["100", "400"]
    assert [tick.x for tick in panel.x_ticks] == [dot.x for dot in measured.dots]
    assert measured.dots[0].y > measured.dots[1].y  # from the top: a higher score is higher up
    assert panel.x_label == "prompts"


def test_the_table_has_measured_beside_fitted():
    made = table(POINTS)
    assert made.names == ("M2 on 25%", "M2 on 100%")
    assert [c.value for c in made.rows[0]] == ["score", "100", "3.00", "3.10", "400"]


def test_preference_stands_beside_task_scores():
    rows = [win("M2", 0.6, 0.55, 0.65), task("M1", 0.5), task("M2", 0.4), task("M3", 0.3)]
    found = trade(rows, "M1")
    assert found.table.names == ("M2",)  # M3 has no win rate
    gain, score, change = found.table.rows[0]
    assert (gain.value, gain.bounds) == ("+10.0 pp", "+5.0 to +15.0 pp")
    assert score.value == "0.400"
    assert change.value == "−0.100"
    assert not found.tested
    assert len(found.planes) == 1


def test_a_paired_change_brings_its_interval_and_verdict():
    about = {"benchmark": "closed_questions", "against": "M1"}
    rows = [
        win("M2", 0.6, 0.55, 0.65),
        task("M1", 0.5, "closed_questions", "recall"),
        task("M2", 0.3, "closed_questions", "recall"),
        task("M2", -0.2, metric="recall_change", **about),
        EvalResult("M2", "closed_questions", "recall_change_p_holm", 0.01, None, None, 9, 0, "M1"),
    ]
    found = trade(rows, "M1")
    assert found.tested
    assert [c.value for c in found.table.rows[0]] == ["+10.0 pp", "30.0%", "−20.0 pp", "worse"]


def test_nothing_to_trade():
    assert trade([win("M2", 0.6, 0.5, 0.7)], "M1") is None
    assert trade([task("M1", 0.4), task("M2", 0.5)], "M1") is None
    worse = [task(m, 9.0, metric="wikitext word_perplexity") for m in ("M1", "M2")]
    assert trade([win("M2", 0.6, 0.5, 0.7), *worse], "M1") is None  # no task score
    assert trade([win("M2", 0.6, 0.5, 0.7), task("M2", 0.5)], "M1") is None  # M1 lacks the task


def test_the_page_shows_both(run_dir):
    stage = run_dir / "stages" / "summary" / "01-evaluate"
    (stage / "scaling.jsonl").write_text("".join(map(to_line, POINTS)))
    with (stage / "results.jsonl").open("a") as file:
        slope = EvalResult("score", "scaling", "per_doubling", 0.25, 0.1, 0.4, 800)
        off = EvalResult("score", "scaling", "largest_minus_predicted", -0.5, -0.9, -0.1, 400)
        for row in (slope, off, task("M1", 0.5), task("M2", 0.4)):
            file.write(to_line(row))
    page = write_report(run_dir).read_text()
    assert 'id="scaling"' in page
    assert "0.250 per doubling (0.100 to 0.400)" in page
    assert "largest size, measured minus predicted −0.500 (−0.900 to −0.100)" in page
    assert 'id="tax"' in page
    assert "M2 on 25%" in page


def test_differences_are_shown_with_their_verdicts(tmp_path):
    pairs = [
        Paired("b: M2", "a: M2", "score", "mean", 0.4, 0.2, 0.6, 0.001, 0.002, 400),
        Paired("b: M3", "a: M3", "score", "mean", 0.3, 0.1, 0.5, 0.03, 0.06, 400),
    ]
    made = paired_table(pairs)
    assert [row[-1].value for row in made.rows] == ["better", "not distinguishable"]
    runs = [build_run(tmp_path / name) for name in ("a", "b")]
    none = Paired("c", "a", "", "", None, None, None, None, None, 0, "c: no values by prompt")
    page = compare_runs(runs, paired=[*pairs, none]).read_text()
    assert "b: M2 − a: M2" in page
    assert "Not comparable: c and a: c: no values by prompt." in page
    assert paired_table([none]) is None


def test_categories_are_drawn_with_a_mark_per_model():
    def row(model, group, value):
        return EvalResult(model, "mt_bench", "mean", value, value - 1, value + 1, 10, group=group)

    rows = [row(m, g, v) for m, v in (("a", 5.0), ("b", 7.0)) for g in ("math", "writing")]
    (plot,) = by_category(rows)
    assert [r.label for r in plot.rows] == ["math", "writing"]
    assert plot.series == ("a", "b")
    assert all(len(r.marks) == 2 for r in plot.rows)
    assert by_category(rows[:1]) == ()  # one category is no comparison
    many = [row(f"m{i}", g, 5.0) for i in range(7) for g in ("math", "writing")]
    assert by_category(many) == ()


def test_runs_that_both_compare_are_not_mixed_in_the_tax(tmp_path):
    a, b, tasks = (build_run(tmp_path / name) for name in ("a", "b", "tasks"))
    rows = [task("M1", 0.5), task("M2", 0.4)]
    file = "stages/summary/01-evaluate/results.jsonl"
    (tasks / file).write_text("".join(map(to_line, rows)))
    page = compare_runs([a, b, tasks]).read_text()
    assert "a, against M1" in page
    assert "b, against M1" in page
    assert "tasks, against" not in page
