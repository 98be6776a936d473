"""Build tables of figures: models down, metrics or parts across, every cell with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alignlab.report import labels
from alignlab.types import EvalResult


@dataclass(frozen=True)
class Cell:
    """Cell of a table."""

    value: str
    bounds: str = ""
    shade: float | None = None
    """Darkness of the cell, from 0 to 1; None for no shading."""


@dataclass(frozen=True)
class ReportTable:
    """Table, ready to draw; the first column holds names."""

    corner: str
    columns: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def by_metric(results: Sequence[EvalResult], corner: str = "Model") -> ReportTable:
    """Tabulate models by metrics; n and unscored are the first metric's; parts are left out.

    A metric that compares with several models has a column for each of them.
    """
    whole = [r for r in results if r.group is None]
    table = _pivot(whole, columns_of(whole), corner)
    basis = {r.model: (f"{r.n:,}", f"{r.unscored:,}") for r in reversed(whole)}
    return ReportTable(
        corner=corner,
        columns=(*table.columns, "n", "unscored"),
        names=table.names,
        rows=tuple(
            (*row, *(Cell(text) for text in basis[name]))
            for name, row in zip(table.names, table.rows, strict=True)
        ),
    )


def columns_of(results: Sequence[EvalResult]) -> Callable[[EvalResult], str]:
    """Return the namer of columns: the metric, and the other model where a metric has several."""
    against: dict[tuple[str, str], set[str | None]] = {}
    for row in results:
        against.setdefault((row.model, row.metric), set()).add(row.against)
    several = {metric for (_, metric), others in against.items() if len(others) > 1}

    def name(row: EvalResult) -> str:
        metric = labels.metric(row.metric)
        return f"{metric}, against {row.against}" if row.metric in several else metric

    return name


def by_part(results: Sequence[EvalResult], corner: str = "Model") -> ReportTable:
    """Tabulate models by parts of the benchmark, shaded from the lowest to the highest figure."""
    known = [r.value for r in results if r.value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)

    def shade(row: EvalResult) -> float | None:
        if row.value is None or high <= low:
            return None
        return round((row.value - low) / (high - low), 3)

    return _pivot(results, lambda r: labels.group(r.group), corner, shade)


def _pivot(
    results: Sequence[EvalResult],
    column_of: Callable[[EvalResult], str],
    corner: str,
    shade: Callable[[EvalResult], float | None] = lambda _: None,
) -> ReportTable:
    names = tuple(dict.fromkeys(r.model for r in results))
    columns = tuple(dict.fromkeys(column_of(r) for r in results))
    cells = {
        (r.model, column_of(r)): Cell(labels.number(r.value, r.metric), labels.bounds(r), shade(r))
        for r in results
    }
    rows = tuple(tuple(cells.get((name, col), Cell("–")) for col in columns) for name in names)
    return ReportTable(corner, columns, names, rows)
