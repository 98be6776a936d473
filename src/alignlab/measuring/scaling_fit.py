"""Fit scores by a line in the logarithm of the size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from alignlab.evaluation.metrics.intervals import Interval
from alignlab.evaluation.metrics.log_fit import LogFit, log_fit
from alignlab.evaluation.result_rows import Subject
from alignlab.measuring.measure import StudyMeasurements, SweepAxis
from alignlab.types import EvalResult, ScalePoint, Score

BENCHMARK = "scaling"


@dataclass(frozen=True)
class Scaled:
    """Figures of the fits, and the points of the curves."""

    rows: list[EvalResult] = field(default_factory=list)
    points: list[ScalePoint] = field(default_factory=list)


def scaled(measured: Sequence[StudyMeasurements]) -> Scaled:
    """Fit every series of a sweep; empty without a sweep."""
    scale, found = measured[0].scale, Scaled()
    if scale is None:
        return found
    for series in dict.fromkeys(scale.series.values()):
        models = [model for model, name in scale.series.items() if name == series]
        fit = _fitted(measured, scale, models)
        if fit is None:
            continue
        subject = Subject(series, BENCHMARK, seeds=tuple(m.seed for m in measured))
        found.rows.append(subject.row("per_doubling", fit.per_doubling))
        if fit.r_squared is not None:
            found.rows.append(subject.count("r_squared", fit.r_squared, fit.per_doubling.n))
        if fit.predicted is not None and fit.off is not None:
            found.rows.append(subject.row("predicted_largest", fit.predicted))
            found.rows.append(subject.row("largest_minus_predicted", fit.off))
        names = {scale.at[model]: model for model in models}
        for size, mean, line in zip(fit.sizes, fit.measured, fit.fitted, strict=True):
            found.points.extend(_point(series, scale.along, size, mean, names[size]))
            found.points.extend(_point(series, scale.along, size, line))
    return found


def _fitted(
    measured: Sequence[StudyMeasurements], scale: SweepAxis, models: Sequence[str]
) -> LogFit | None:
    """Fit all scored answers of a series; None with fewer than two scored sizes."""
    cluster = {p.id: p.cluster for p in measured[0].held_out.prompts}
    units = [
        (f.verdict.value, scale.at[model], cluster[f.prompt_id], m.seed)
        for m in measured
        for model in models
        for f in m.scored[model]
        if isinstance(f.verdict, Score)
    ]
    if len({size for _, size, _, _ in units}) < 2:
        return None
    values, sizes, prompts, seeds = zip(*units, strict=True)
    return log_fit(values, sizes, prompts, seeds_N=seeds, seed=measured[0].seed)


def _point(
    series: str, along: str, size: float, figure: Interval, model: str = ""
) -> list[ScalePoint]:
    if figure.value is None:
        return []
    return [ScalePoint(series, along, size, figure.value, figure.low, figure.high, figure.n, model)]
