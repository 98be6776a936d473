"""Build the sections on judges: agreement with reference scores, and reward against true score."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.report import calibration_plot, forest, labels, tables
from alignlab.report.headline import CHANCE
from alignlab.report.run_data import RunData
from alignlab.report.section import BOOTSTRAP, Section, basis, whole
from alignlab.types import EvalResult

PEOPLE = "people"
"""Benchmark of people's ratings."""


def agreement(results: Sequence[EvalResult]) -> list[Section]:
    """Build the section on judges: accuracy and Spearman, on own samples and held-out groups."""
    benchmarks = {r.benchmark for r in results if r.metric.startswith("pairwise_accuracy")}
    rows = [r for r in results if r.benchmark in benchmarks]
    plots = []
    for metric, chance in (("pairwise_accuracy_ties_half", CHANCE), ("spearman", 0.0)):
        series = {
            labels.benchmark(name): [r for r in whole(rows, metric) if r.benchmark == name]
            for name in dict.fromkeys(r.benchmark for r in rows)
        }
        series = {name: some for name, some in series.items() if some}
        if series:
            plots.append(
                forest.several(
                    series,
                    {},
                    reference=chance,
                    reference_label="chance",
                    title=labels.metric(metric),
                )
            )
    if not plots:
        return []
    tabled = [_named(r, len(benchmarks) > 1) for r in rows]
    return [
        Section(
            anchor="judges",
            title="How good the judges are",
            lead="Agreement of each judge's scores with the reference scores. A judge that looks "
            "good on held-out responses can be near chance on the samples it has to judge.",
            forests=tuple(plots),
            caption=f"Pairs of responses: {basis(whole(rows, 'pairwise_accuracy'))}; "
            f"{BOOTSTRAP}; an unreadable score is missing, never a number.",
            table=tables.by_metric(tabled, corner="Judge"),
        )
    ]


def _named(row: EvalResult, several: bool) -> EvalResult:
    """Prefix a judge's row with its benchmark, so that names differ within one table."""
    if not several:
        return row
    name = f"{row.model} · {labels.benchmark(row.benchmark).lower()}"
    return EvalResult(
        name, row.benchmark, row.metric, row.value, row.low, row.high, row.n, row.unscored
    )


def people(results: Sequence[EvalResult]) -> list[Section]:
    """Build the section on equal verdicts of people and judges, a plot per task of ratings."""
    rows = [r for r in results if (r.benchmark, r.metric) == (PEOPLE, "agreement")]
    known = [r for r in rows if r.value is not None]
    tasks = list(dict.fromkeys(r.group for r in known))
    if not tasks:
        return []
    plots = tuple(
        forest.single(
            [r for r in known if r.group == task],
            {},
            reference=None,
            reference_label="",
            title=labels.group(task),
            adjacent=known,
        )
        for task in tasks
    )
    return [
        Section(
            anchor="people",
            title="Agreement with people",
            lead="Share of items on which people and each judge give the same verdict, by task; "
            "ties and equal scores count as a verdict of their own.",
            forests=plots,
            caption=f"{basis(known)} items; {BOOTSTRAP}.",
        )
    ]


def rewards(run: RunData) -> list[Section]:
    """Build the section of true score by reward, if a judge was audited."""
    panels = calibration_plot.panels(run.audits)
    if not panels:
        return []
    return [
        Section(
            anchor="reward",
            title="Reward against true score",
            lead="Does more reward mean a better answer? A useful judge's line rises; where it "
            "is flat or falls, training on the reward cannot help.",
            planes=panels,
            caption="Mean true score of the responses in each bin of reward, with 95% normal "
            "intervals over responses, cut where they leave the common scale; unscored responses "
            "left out.",
        )
    ]
