"""Build the figures of the page from result rows: comparisons, scores, parts, judges, the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from alignlab.report import (
    forest,
    judge_sections,
    labels,
    overoptimization_plot,
    scaling_plot,
    tables,
    tax_table,
)
from alignlab.report.forest import Forest
from alignlab.report.headline import CHANCE, verdict
from alignlab.report.line_chart import Point, line_chart
from alignlab.report.run_data import RunData
from alignlab.report.section import BOOTSTRAP, Section, basis, intervals, whole
from alignlab.types import EvalResult

SCALING = "scaling"
PEOPLE = judge_sections.PEOPLE
MOST_SERIES = 6
"""Maximum number of models that one plot distinguishes by colour."""


def build(run: RunData) -> tuple[Section, ...]:
    """Build all sections for which the run has records, in reading order."""
    order = list(run.study.models)
    results = sorted(run.results, key=lambda r: _place(r.model, order))
    notes = run.study.models
    found = [
        *_comparisons(results, notes),
        *_tax(results, run.study.baseline),
        *_scores(results, notes, run.study.baseline),
        *_growth(run),
        *_parts(results),
        *judge_sections.agreement(results),
        *judge_sections.people(results),
        *judge_sections.rewards(run),
        *_against_kl(results),
        *_drifts(run),
        *_rest(results),
    ]
    return tuple(found)


def _place(model: str, order: list[str]) -> int:
    return order.index(model) if model in order else len(order)


def _comparisons(results: Sequence[EvalResult], notes: Mapping[str, str]) -> list[Section]:
    """Build a section of win rates per benchmark and baseline."""
    wins = whole(results, "win_rate")
    found = []
    for number, key in enumerate(dict.fromkeys((r.benchmark, r.against) for r in wins)):
        rows = [r for r in wins if (r.benchmark, r.against) == key]
        against = key[1] or "the baseline"
        by_people = key[0] == PEOPLE
        who = "people prefer" if by_people else "the judge prefers"
        table = [r for r in results if (r.benchmark, r.against) == key]
        found.append(
            Section(
                anchor="win-rate" if number == 0 else f"win-rate-{number + 1}",
                title=f"Win rate against {against}{', by people' if by_people else ''}",
                lead=f"How often {who} the model's answer; a tie counts half. Filled "
                "marks differ from one half beyond their interval, and still do when corrected for "
                "the number of comparisons.",
                forests=(
                    forest.single(
                        rows,
                        notes,
                        reference=CHANCE,
                        reference_label=f"{against} = 50%",
                        tested=results,
                    ),
                ),
                caption=f"{labels.benchmark(key[0])}; {basis(rows)}; {BOOTSTRAP}.",
                table=_with_verdicts(tables.by_metric(table), rows, results),
            )
        )
    return found


def _with_verdicts(
    table: tables.ReportTable, rows: Sequence[EvalResult], results: Sequence[EvalResult]
) -> tables.ReportTable:
    """Add a column with the verdict of each win rate by its adjusted p-value."""
    verdicts = {r.model: verdict(r, results) for r in rows}
    if not any(verdicts.values()):
        return table
    return replace(
        table,
        columns=(*table.columns, "verdict, corrected"),
        rows=tuple(
            (*cells, tables.Cell(verdicts.get(name) or "–"))
            for name, cells in zip(table.names, table.rows, strict=True)
        ),
    )


def _tax(results: Sequence[EvalResult], baseline: str) -> list[Section]:
    """Build the section on the alignment tax, if a run has win rates and task scores."""
    found = tax_table.trade(results, baseline)
    if found is None:
        return []
    tested = (
        " Changes are paired by prompt; the verdict is of a p-value adjusted for the number of "
        "models (Holm)."
        if found.tested
        else ""
    )
    return [
        Section(
            anchor="tax",
            title="Alignment tax",
            lead="Does a model that is preferred lose at tasks that need no judge? Up is "
            "preferred, right is better at the task; pp are percentage points.",
            planes=found.planes,
            caption=f"Preference gained: win rate against {baseline} less one half; "
            f"{BOOTSTRAP}.{tested}",
            table=found.table,
        )
    ]


def _growth(run: RunData) -> list[Section]:
    """Build the section of scaling curves with their fitted lines."""
    if not run.scaling:
        return []
    slopes = [r for r in run.results if (r.benchmark, r.metric) == (SCALING, "per_doubling")]
    gains = "; ".join(
        f"{r.model}: {labels.number(r.value, r.metric)} per doubling ({labels.bounds(r)})"
        for r in slopes
    )
    metrics = ("predicted_largest", "largest_minus_predicted")
    ahead = [r for r in run.results if r.benchmark == SCALING and r.metric in metrics]
    gains += "".join(
        f"; {r.model}: {labels.metric(r.metric).lower()} {labels.number(r.value, r.metric)} "
        f"({labels.bounds(r)})"
        for r in ahead
    )
    return [
        Section(
            anchor="scaling",
            title="Scaling",
            lead="Score by what grows, on a logarithmic axis, with the line fitted to it.",
            planes=scaling_plot.panels(run.scaling),
            caption=f"{gains}. {basis(slopes)}; 95% bootstrap intervals, prompts resampled "
            "together for all sizes, and training seeds where there are several.",
            table=scaling_plot.table(run.scaling),
        )
    ]


def _scores(
    results: Sequence[EvalResult], notes: Mapping[str, str], baseline: str
) -> list[Section]:
    """Build the section of mean scores per model, one plot per scored benchmark."""
    means = whole(results, "mean")
    if not means:
        return []
    plots = []
    for name in dict.fromkeys(r.benchmark for r in means):
        rows = [r for r in means if r.benchmark == name]
        base = next((r.value for r in rows if r.model == baseline), None)
        plots.append(
            forest.single(
                rows,
                notes,
                reference=base,
                reference_label=baseline if base is not None else "",
                title=labels.benchmark(name),
            )
        )
    return [
        Section(
            anchor="score",
            title="Score per model",
            lead="Mean score of each model's answers to the test prompts.",
            forests=tuple(plots),
            caption=f"{basis(means)}; {BOOTSTRAP}. The line marks {baseline or 'the baseline'}.",
            table=tables.by_metric([r for r in results if r.metric == "mean"]),
        )
    ]


def _parts(results: Sequence[EvalResult]) -> list[Section]:
    """Build the section of scores by prompt type and family (win rates if there are no scores)."""
    parts = [r for r in results if r.group is not None and r.metric == "mean"]
    parts = parts or [r for r in results if r.group is not None and r.metric == "win_rate"]
    if not parts:
        return []
    what = labels.metric(parts[0].metric)
    types = [r for r in parts if (r.group or "").startswith("type:") and r.value is not None]
    plots = [
        forest.single(
            [r for r in types if r.group == name],
            {},
            reference=None,
            reference_label="",
            title=labels.group(name),
            adjacent=types,
        )
        for name in dict.fromkeys(r.group for r in types)
    ]
    return [
        Section(
            anchor="types",
            title=f"{what} by prompt type",
            lead="The same answers by type of prompt (open- or closed-ended) and by family: what "
            "the prompts ask for, as their data set names it.",
            forests=tuple(plots) or by_category(parts),
            shaded=tables.by_part(parts),
            caption=f"{basis(parts)} per part; {BOOTSTRAP}; the stronger the tint, the higher.",
        )
    ]


def _against_kl(results: Sequence[EvalResult]) -> list[Section]:
    """Build the section of scores against KL divergence from the reference model."""
    kl = {r.model: r for r in whole(results, "kl") if r.value is not None}
    scored = [r for r in whole(results, "mean") if r.model in kl and r.value is not None]
    if len(scored) < 2:
        return []
    scored.sort(key=lambda r: kl[r.model].value or 0.0)
    points = [
        Point(kl[r.model].value or 0.0, r.value or 0.0, r.low, r.high, f"{r.model}: {r.value:.2f}")
        for r in scored
    ]
    return [
        Section(
            anchor="kl",
            title="Score against distance from the reference",
            lead="Over-optimisation shows as a score that falls while the KL divergence grows.",
            planes=(
                line_chart(
                    "Score by KL divergence",
                    [[point] for point in points],
                    x_label="KL divergence (nats)",
                    y_label="score",
                    dots=True,
                ),
            ),
            caption=f"One dot per model, by rising divergence: "
            f"{', '.join(r.model for r in scored)}.",
            table=tables.by_metric([row for r in scored for row in (r, kl[r.model])]),
        )
    ]


def _drifts(run: RunData) -> list[Section]:
    panels = overoptimization_plot.panels(run.drifts)
    if not panels:
        return []
    return [
        Section(
            anchor="drift",
            title="Score against KL while training",
            lead="Each policy as it was trained, step by step: what it is rewarded for, and what "
            "is true of the same answers.",
            planes=panels,
            caption="Answers drawn for training, at temperature 1; "
            f"{overoptimization_plot.WINDOW} steps to a dot.",
        )
    ]


def _rest(results: Sequence[EvalResult]) -> list[Section]:
    """Build tables of all benchmarks without a figure."""
    drawn = {
        r.benchmark
        for r in results
        if r.metric in ("win_rate", "mean") or r.metric.startswith("pairwise_accuracy")
    } | {SCALING, PEOPLE}
    by_benchmark = {
        name: [r for r in results if r.benchmark == name]
        for name in dict.fromkeys(r.benchmark for r in results)
        if name not in drawn
    }
    return [
        Section(
            anchor=f"benchmark-{number}",
            title=labels.benchmark(name),
            lead="",
            caption=f"{basis(rows)}; {intervals(rows)}.",
            forests=by_category(_first_parts(rows)),
            table=tables.by_metric(rows),
            shaded=_first_by_part(rows),
        )
        for number, (name, rows) in enumerate(by_benchmark.items())
    ]


def _first_by_part(results: Sequence[EvalResult]) -> tables.ReportTable | None:
    """Plot the first metric that has parts, part by part; None without parts."""
    parts = _first_parts(results)
    return tables.by_part(parts, corner=labels.metric(parts[0].metric)) if parts else None


def _first_parts(results: Sequence[EvalResult]) -> list[EvalResult]:
    """Return the rows by part of the first metric that has parts."""
    metric = next((r.metric for r in results if r.group is not None), None)
    return [r for r in results if r.group is not None and r.metric == metric]


def by_category(parts: Sequence[EvalResult]) -> tuple[Forest, ...]:
    """Plot categories down with one mark per model; None for more models than `MOST_SERIES`."""
    known = [r for r in parts if r.value is not None]
    models = list(dict.fromkeys(r.model for r in known))
    if not known or len(models) > MOST_SERIES or len({r.group for r in known}) < 2:
        return ()
    series = {
        model: [replace(r, model=labels.group(r.group)) for r in known if r.model == model]
        for model in models
    }
    title = labels.metric(known[0].metric)
    return (forest.several(series, {}, reference=None, reference_label="", title=title),)
