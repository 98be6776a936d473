"""List parts by kind, and print tables of settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignlab import registry
from alignlab.errors import unknown_name

if TYPE_CHECKING:
    from alignlab.api.settings import Settings

KINDS = {
    "recipes": "recipe",
    "objectives": "objective",
    "feedback": "feedback",
    "engines": "engine",
    "data": "data",
}
ALSO = {"judges": "feedback", "rewards": "feedback"}
"""Other words for a kind -> the kind."""


def list_parts(what: str = "recipes") -> dict[str, str]:
    """List the parts of a kind, each with a one-line description.

    Args:
        what: recipes, objectives, feedback (judges and rewards), engines, benchmarks or data.

    Raises:
        BadInput: no such kind.
    """
    from alignlab.api.settings import benchmarks

    what = ALSO.get(what, what)
    if what == "benchmarks":
        return benchmarks()
    if what not in KINDS:
        raise unknown_name("list", what, [*KINDS, "benchmarks"])
    kind = KINDS[what]
    return {name: registry.find(kind, name).about for name in registry.names(kind)}


def show_settings(settings: Settings) -> None:
    """Print settings with their defaults and descriptions."""
    from rich.table import Table
    from rich.text import Text

    from alignlab.commands._support.tables import show

    for line in settings.heading:
        print(line)
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for option in settings.options:
        # As text, not markup, which would take words in square brackets away.
        table.add_row(option.key, Text(_plain(option.default)), Text(option.doc))
    show(table)


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return "" if value in ("", None, [], {}) else str(value)
