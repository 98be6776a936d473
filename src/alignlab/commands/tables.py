"""Tables for a reader, as wide as the terminal or, in a file, as wide as a page."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

PAGE = 140
"""Characters of a line where there is no terminal."""


def show(table: Table) -> None:
    """Print a table."""
    Console(width=None if sys.stdout.isatty() else PAGE).print(table)
