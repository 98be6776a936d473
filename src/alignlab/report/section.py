"""Define a section of the page, and the words on the basis of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alignlab.report.forest import Forest
from alignlab.report.labels import SHARES
from alignlab.report.line_chart import LineChart
from alignlab.report.tables import ReportTable
from alignlab.types import EvalResult

BOOTSTRAP = "95% bootstrap intervals, prompts resampled"


@dataclass(frozen=True)
class Section:
    """Part of the page: figures with a caption, and the table of their values."""

    anchor: str
    title: str
    lead: str
    forests: tuple[Forest, ...] = ()
    planes: tuple[LineChart, ...] = ()
    shaded: ReportTable | None = None
    caption: str = ""
    table: ReportTable | None = None


def basis(rows: Sequence[EvalResult]) -> str:
    """Describe n, seeds and unscored of some rows for a caption."""
    sizes = sorted({r.n for r in rows})
    text = f"n = {sizes[0]:,}" if len(sizes) == 1 else f"n = {sizes[0]:,} to {sizes[-1]:,}"
    seeds = sorted({s for r in rows for s in r.seeds})
    if seeds:
        text += f", {len(seeds)} training seed{'s' if len(seeds) > 1 else ''} ({_listed(seeds)})"
    unscored = sum(r.unscored for r in rows if r.group is None)
    text += f", {unscored:,} unscored left out" if unscored else ", none unscored"
    apart = any(r.comparable is False for r in rows)
    return text + (", not comparable with published figures" if apart else "")


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def intervals(rows: Sequence[EvalResult]) -> str:
    """Name the kinds of interval of some rows for a caption."""
    alike = any(r.metric in SHARES and r.value in (0.0, 1.0) and r.low != r.high for r in rows)
    return f"{BOOTSTRAP}; for shares of none or all, Wilson's" if alike else BOOTSTRAP


def whole(results: Sequence[EvalResult], metric: str) -> list[EvalResult]:
    """Return the rows of a metric over whole benchmarks that have a value."""
    return [r for r in results if r.metric == metric and r.group is None and r.value is not None]
