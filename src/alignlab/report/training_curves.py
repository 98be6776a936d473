"""Summarise a run: training curves, and time, tokens and calls per stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from alignlab.report.labels import duration
from alignlab.report.line_chart import LineChart, Point, curve, line_chart
from alignlab.report.run_data import Curve, RunData, StageRecord, label_of, words_of
from alignlab.types import Count, Usage

CURVES = (
    ("loss", "Loss"),
    ("rewards/accuracies", "Preference accuracy on the training pairs"),
    ("rewards/margins", "Reward margin"),
    ("objective/kl", "KL divergence from the reference"),
    ("objective/scores", "Reward"),
    ("completions/mean_length", "Response length (tokens)"),
    ("completions/repetition", "Repeated 4-grams within a response"),
)
"""Training metrics that are drawn, with their titles."""


@dataclass(frozen=True)
class CurveGroup:
    """One training metric over all stages that log it, one panel per stage."""

    title: str
    panels: tuple[LineChart, ...]


@dataclass(frozen=True)
class Spend:
    """Time, tokens and calls of one stage, summed over seeds."""

    label: str
    runs: int
    seconds: float
    bar: float
    """Seconds in per cent of the longest stage's."""
    usage: Usage
    unfinished: int

    @property
    def time(self) -> str:
        """Return the time in units that suit its size."""
        return duration(self.seconds)


def curves(found: Sequence[Curve], models: Iterable[str] = ()) -> tuple[CurveGroup, ...]:
    """Plot the logged metrics of `CURVES`, on one scale each; seeds of one stage share a panel.

    Args:
        models: names of the models, for the panels' titles.
    """
    groups = []
    for metric, title in CURVES:
        by_label: dict[str, list[list[Point]]] = {}
        for one in found:
            if line := curve(one.steps, metric):
                by_label.setdefault(words_of(one.stage, models), []).append(line)
        every = [line for lines in by_label.values() for line in lines]
        panels = tuple(
            line_chart(
                label,
                lines,
                note=f"{len(lines)} runs" if len(lines) > 1 else "",
                x_label="step",
                adjacent=every,
            )
            for label, lines in by_label.items()
        )
        if panels:
            groups.append(CurveGroup(title, panels))
    return tuple(groups)


def spending(run: RunData) -> tuple[Spend, ...]:
    """Sum time and usage by stage over seeds, in the order of the run."""
    found = [
        _spend(label, [s for s in run.stages if s.label == label])
        for label in dict.fromkeys(s.label for s in run.stages)
    ]
    longest = max((s.seconds for s in found), default=0.0) or 1.0
    return tuple(replace(s, bar=round(100 * s.seconds / longest, 2)) for s in found)


def counts(by_stage: Mapping[str, Sequence[Count]]) -> tuple[Count, ...]:
    """Sum records kept and dropped over seeds, in the order of the run."""
    found: dict[tuple[str, str], Count] = {}
    for stage, some in by_stage.items():
        for count in some:
            key = (label_of(stage), count.what)
            before = found.get(key, Count(*key, 0))
            found[key] = Count(
                *key,
                before.kept + count.kept,
                dict(Counter(before.dropped) + Counter(count.dropped)),
                dict(Counter(before.changed) + Counter(count.changed)),
            )
    return tuple(found.values())


def total(spent: Sequence[Spend]) -> Spend:
    """Sum over stages."""
    usage = Usage()
    for one in spent:
        usage = usage + one.usage
    return Spend(
        "all stages",
        sum(s.runs for s in spent),
        sum(s.seconds for s in spent),
        0.0,
        usage,
        sum(s.unfinished for s in spent),
    )


def _spend(label: str, stages: list[StageRecord]) -> Spend:
    usage = Usage()
    for stage in stages:
        usage = usage + stage.usage
    return Spend(
        label=label,
        runs=len(stages),
        seconds=sum(s.seconds for s in stages),
        bar=0.0,
        usage=usage,
        unfinished=sum(s.state != "done" for s in stages),
    )
