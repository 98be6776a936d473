"""Plot scaling curves: measured scores at every size, with the fitted line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from alignlab.report.line_chart import LineChart, Point, line_chart
from alignlab.report.tables import Cell, ReportTable
from alignlab.types import ScalePoint


def panels(points: Sequence[ScalePoint]) -> tuple[LineChart, ...]:
    """Build one panel per curve, with a tick at every measured size."""
    found = []
    for series in dict.fromkeys(p.series for p in points):
        mine = [p for p in points if p.series == series]
        lines = [[_point(p) for p in mine if bool(p.model) == known] for known in (False, True)]
        drawn = line_chart(
            series,
            lines,
            x_label=mine[0].along,
            y_label="score",
            dots=True,
            doublings=True,
        )
        found.append(replace(drawn, lines=(replace(drawn.lines[0], dots=()), *drawn.lines[1:])))
    return tuple(found)


def table(points: Sequence[ScalePoint]) -> ReportTable:
    """Tabulate the measured and the fitted value at every size."""
    fitted = {(p.series, p.at): p for p in points if not p.model}
    measured = [p for p in points if p.model]
    return ReportTable(
        corner="Model",
        columns=("curve", measured[0].along, "score", "fitted", "n") if measured else (),
        names=tuple(p.model for p in measured),
        rows=tuple(
            (
                Cell(p.series),
                Cell(f"{p.at:,g}"),
                _cell(p),
                _cell(fitted.get((p.series, p.at))),
                Cell(f"{p.n:,}"),
            )
            for p in measured
        ),
    )


def _cell(point: ScalePoint | None) -> Cell:
    if point is None:
        return Cell("–")
    known = point.low is not None and point.high is not None
    return Cell(f"{point.value:.2f}", f"{point.low:.2f} to {point.high:.2f}" if known else "")


def _point(point: ScalePoint) -> Point:
    title = f"{point.model or 'fitted'}: {point.at:g}, {point.value:.2f}"
    return Point(math.log2(point.at), point.value, point.low, point.high, title)
