"""Reports of runs that are already there."""

from __future__ import annotations

from pathlib import Path

from alignlab.errors import BadInput
from alignlab.report import compare_runs, markdown, write_report


def report(*runs: str | Path) -> Path:
    """Write the report of one run again, or a page that compares several."""
    return write_report(_run(runs[0])) if len(runs) == 1 else compare(*runs)


def compare(*runs: str | Path) -> Path:
    """Write one page that puts two or more runs side by side.

    Raises:
        BadInput: fewer than two runs, or a folder that is no run.
    """
    if len(runs) < 2:
        raise BadInput(f"expected two or more run directories, found {len(runs)}")
    return compare_runs([_run(run) for run in runs])


def tables(run: str | Path) -> str:
    """A run's main figures as Markdown tables."""
    return markdown(_run(run))


def _run(folder: str | Path) -> Path:
    path = Path(folder)
    if not (path / "manifest.json").exists():
        raise BadInput(f"{path}: expected a run directory (with manifest.json), found none")
    return path
