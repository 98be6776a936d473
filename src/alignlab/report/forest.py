"""Lay out forest plots: one row per model or judge, a mark with its interval, a reference line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignlab.report.axis import Axis, axis
from alignlab.report.headline import decided
from alignlab.report.labels import POINTS, SHARES, bounds, number
from alignlab.types import EvalResult


@dataclass(frozen=True)
class Mark:
    """Figure with its interval, in per cent of the plot's width."""

    x: float
    low: float | None
    high: float | None
    series: int
    """Index of the mark's series; decides colour and height."""
    look: str
    """`better`, `worse`, `open` (not distinguishable) or `plain`."""
    value: str
    bounds: str
    title: str
    """Figure in words, shown on hover and read aloud."""


@dataclass(frozen=True)
class ForestRow:
    """Row of a forest plot."""

    label: str
    note: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Tick:
    """Tick of the axis."""

    x: float
    label: str


@dataclass(frozen=True)
class Forest:
    """Forest plot, ready to draw."""

    rows: tuple[ForestRow, ...]
    ticks: tuple[Tick, ...]
    reference: float | None
    """Position of the reference line, in per cent."""
    reference_label: str
    series: tuple[str, ...] = ()
    """Names for the legend; empty for a single series."""
    title: str = ""


def single(
    results: Sequence[EvalResult],
    notes: Mapping[str, str],
    *,
    reference: float | None,
    reference_label: str,
    tested: Sequence[EvalResult] | None = None,
    title: str = "",
    adjacent: Sequence[EvalResult] = (),
) -> Forest:
    """Lay out a plot with one mark per row.

    Args:
        results: rows of one metric, in the order to draw.
        notes: model -> one line of description.
        reference: value of the reference line.
        tested: all rows of the run; their adjusted p-values and intervals decide which marks are
            filled; None draws plain marks.
        adjacent: rows of adjacent plots, which share the axis.
    """
    metric = results[0].metric
    scale = _scale([*results, *adjacent], reference)
    rows = tuple(
        ForestRow(
            label=r.model,
            note=notes.get(r.model, ""),
            marks=(_mark(r, scale, look=_look(r, reference, tested)),),
        )
        for r in results
        if r.value is not None
    )
    return Forest(
        rows=rows,
        ticks=_ticks(scale, metric),
        reference=None if reference is None else scale.at(reference),
        reference_label=reference_label,
        title=title,
    )


def several(
    series: Mapping[str, Sequence[EvalResult]],
    notes: Mapping[str, str],
    *,
    reference: float | None,
    reference_label: str,
    title: str,
) -> Forest:
    """Lay out a plot with one mark per series in each row, for the models of all series."""
    every = [r for rows in series.values() for r in rows]
    scale = _scale(every, reference)
    rows = []
    for model in dict.fromkeys(r.model for r in every):
        found = [
            (i, r)
            for i, some in enumerate(series.values())
            for r in some
            if r.model == model and r.value is not None
        ]
        if found:
            marks = tuple(_mark(r, scale, series=i) for i, r in found)
            rows.append(ForestRow(model, notes.get(model, ""), marks))
    return Forest(
        rows=tuple(rows),
        ticks=_ticks(scale, every[0].metric),
        reference=None if reference is None else scale.at(reference),
        reference_label=reference_label,
        series=tuple(series) if len(series) > 1 else (),
        title=title,
    )


def _scale(results: Sequence[EvalResult], reference: float | None) -> Axis:
    values = [v for r in results for v in (r.value, r.low, r.high)]
    share = results[0].metric in SHARES
    return axis([*values, reference], within=(0.0, 1.0) if share else None)


def _ticks(scale: Axis, metric: str) -> tuple[Tick, ...]:
    if metric in SHARES:
        return tuple(Tick(scale.at(t), f"{100 * t:g}%") for t in scale.ticks)
    factor = 100 if metric in POINTS else 1
    return tuple(Tick(scale.at(t), f"{factor * t:g}".replace("-", "−")) for t in scale.ticks)


def _look(row: EvalResult, reference: float | None, tested: Sequence[EvalResult] | None) -> str:
    if reference is None or tested is None:
        return "plain"
    found = decided(row, tested, reference)
    return "open" if found == "not distinguishable" else found


def _mark(row: EvalResult, scale: Axis, *, series: int = 0, look: str = "plain") -> Mark:
    value, interval = number(row.value, row.metric), bounds(row)
    return Mark(
        x=scale.at(row.value or 0.0),
        low=None if row.low is None else scale.at(row.low),
        high=None if row.high is None else scale.at(row.high),
        series=series,
        look=look,
        value=value,
        bounds=interval,
        title=f"{row.model}: {value}" + (f" ({interval})" if interval else "") + f", n = {row.n:,}",
    )
