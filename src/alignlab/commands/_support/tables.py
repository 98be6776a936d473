"""Print tables, as wide as the terminal or, in a file, as wide as a page."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PAGE = 140
"""Characters per line without a terminal."""


@dataclass(frozen=True)
class Evaluated:
    """Figures of an evaluation, for programs and for readers."""

    rows: tuple[dict[str, Any], ...]
    """One per model or judge: "model", then its metrics by name."""
    table: Table
    """The rows, rounded, with 95% intervals."""
    report: Path | None = None
    """Page of the run, if there was a run."""
    notes: tuple[str, ...] = ()
    """Lines printed above the table."""


def show(table: Table) -> None:
    """Print a table."""
    Console(width=None if sys.stdout.isatty() else PAGE).print(table)


def figure_cells(value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """Format a value and its 95% interval to four digits."""
    between = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
    return ("-" if value is None else f"{value:.4g}"), between


def empty_table(title: str, columns: Iterable[str]) -> Table:
    """Return an empty table: names left-aligned, numbers right-aligned."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=bool(number))
    return table
