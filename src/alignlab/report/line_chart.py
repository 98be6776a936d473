"""Lay out line charts on two axes: training curves, and reward against gold score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alignlab.report.axis import Axis, axis
from alignlab.report.forest import Tick

MAX_POINTS = 160
"""Maximum number of points per line; longer curves are thinned evenly."""
_Y_MARGIN = 6.0
_CLOSE_X, _CLOSE_Y = 3.0, 8.0


@dataclass(frozen=True)
class Dot:
    """Mean with its interval, in per cent of the plane."""

    x: float
    y: float
    low: float | None
    high: float | None
    title: str
    name: str = ""
    """Number that the legend explains; empty for dots of a line."""
    is_left: bool = False
    """True if the number is left of the dot, because another dot is right of it."""


@dataclass(frozen=True)
class ChartLine:
    """Line as SVG points in a 100 x 100 box, with an optional dot per point."""

    points: str
    series: int
    dots: tuple[Dot, ...] = ()


@dataclass(frozen=True)
class LineChart:
    """Small line chart, ready to draw."""

    title: str
    note: str
    lines: tuple[ChartLine, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_label: str
    y_label: str
    names: tuple[str, ...] = ()
    """Names of numbered dots, in their order."""


@dataclass(frozen=True)
class Point:
    """Point of a line, with its interval if there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    title: str = ""


def line_chart(
    title: str,
    lines: Sequence[Sequence[Point]],
    *,
    note: str = "",
    x_label: str = "",
    y_label: str = "",
    dots: bool = False,
    doublings: bool = False,
    names: Sequence[str] = (),
    adjacent: Sequence[Sequence[Point]] = (),
) -> LineChart:
    """Lay out lines on common axes.

    Args:
        doublings: x is a base-2 logarithm, whose ticks are sizes.
        names: name of each line; the lines are then single dots of one colour, numbered from 1.
        adjacent: lines of adjacent charts, which share the vertical axis; it covers their values,
            and intervals beyond it are cut.
    """
    every = [p for line in lines for p in line]
    across = axis([p.x for p in every], ticks=5)
    shared = [p.y for line in adjacent for p in line]
    up = axis(shared or [v for p in every for v in (p.y, p.low, p.high)], ticks=5)
    if doublings:
        marks = [(x, _short(float(f"{2**x:.3g}"))) for x in sorted({p.x for p in every})]
    else:
        marks = [(t, _short(t)) for t in across.ticks]
    drawn = tuple(
        _line(line, 0 if names else i, across, up, dots=dots)
        for i, line in enumerate(lines)
        if line
    )
    if names:
        drawn = _numbered(drawn)
    return LineChart(
        title=title,
        note=note,
        lines=drawn,
        x_ticks=tuple(Tick(across.at(t), word) for t, word in marks),
        y_ticks=tuple(Tick(_height(up, t), _short(t)) for t in up.ticks),
        x_label=x_label,
        y_label=y_label,
        names=tuple(names),
    )


def _numbered(lines: Sequence[ChartLine]) -> tuple[ChartLine, ...]:
    """Number single dots; of two close ones, the left one has its number on its left."""
    dots = [line.dots[0] for line in lines]
    found = []
    for number, dot in enumerate(dots, start=1):
        is_left = any(0 < o.x - dot.x < _CLOSE_X and abs(o.y - dot.y) < _CLOSE_Y for o in dots)
        named = replace(dot, name=str(number), is_left=is_left)
        found.append(replace(lines[number - 1], dots=(named,)))
    return tuple(found)


def curve(steps: Sequence[Mapping[str, float]], metric: str) -> list[Point]:
    """Return a metric over the training steps, thinned."""
    known = [s for s in steps if metric in s and "step" in s and math.isfinite(s[metric])]
    stride = max(1, math.ceil(len(known) / MAX_POINTS))
    kept = known[::stride]
    if known and kept[-1] is not known[-1]:
        kept.append(known[-1])
    return [Point(s["step"], s[metric]) for s in kept]


def _line(points: Sequence[Point], series: int, across: Axis, up: Axis, *, dots: bool) -> ChartLine:
    spots = [(across.at(p.x), _height(up, p.y)) for p in points]
    return ChartLine(
        points=" ".join(f"{x:g},{y:g}" for x, y in spots),
        series=series,
        dots=tuple(
            Dot(
                x,
                y,
                None if p.low is None else _height(up, p.low),
                None if p.high is None else _height(up, p.high),
                p.title,
            )
            for (x, y), p in zip(spots, points, strict=True)
        )
        if dots
        else (),
    )


def _height(up: Axis, value: float) -> float:
    """Return the position from the top in per cent, so that large values are high up."""
    return round(100 - up.at(value, margin=_Y_MARGIN), 3)


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}".replace("-", "−")
