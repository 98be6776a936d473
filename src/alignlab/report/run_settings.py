"""Read the settings of runs by dotted name, and find those that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from alignlab.report.tables import Cell, ReportTable

PLACES = frozenset({"out"})
"""Settings that differ between any two runs and change no figure."""


def read_settings(run: Path) -> dict[str, Any]:
    """Read a run's config.yaml by dotted name; empty without one."""
    path = run / "config.yaml"
    plain = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return dict(flat(plain or {}))


def flat(settings: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested settings by dotted name."""
    if not isinstance(settings, Mapping):
        return [(prefix.rstrip("."), settings)]
    return [pair for name, value in settings.items() for pair in flat(value, f"{prefix}{name}.")]


def setting_differences(
    settings: Sequence[Mapping[str, Any]],
) -> list[tuple[str, tuple[Any, ...]]]:
    """List settings that differ between runs, with the value of each run.

    Returns:
        Dotted name and values, None where a run lacks the setting; first the settings that all
        runs have, then the others, each by name.
    """
    found = []
    for name in sorted({name for one in settings for name in one} - PLACES):
        values = tuple(one.get(name) for one in settings)
        if any(value != values[0] for value in values[1:]):
            found.append((name, values))
    return sorted(found, key=lambda row: None in row[1])


def settings_table(
    names: Sequence[str], differing: Sequence[tuple[str, tuple[Any, ...]]]
) -> ReportTable | None:
    """Tabulate differing settings, one column per run; None if none differ."""
    if not differing:
        return None
    return ReportTable(
        corner="Setting",
        columns=tuple(names),
        names=tuple(name for name, _ in differing),
        rows=tuple(tuple(Cell(words(v)) for v in values) for _, values in differing),
    )


def words(value: Any) -> str:
    """Format the value of a setting as a command line takes it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(words, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'
