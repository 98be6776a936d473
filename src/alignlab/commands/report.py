"""Write reports of existing runs."""

from __future__ import annotations

from pathlib import Path

from alignlab.errors import BadInput
from alignlab.integrity import refuse_damage
from alignlab.report import compare_runs, export, markdown, write_report
from alignlab.report.export import Format
from alignlab.report.run_comparison import run_names


def report(*runs: str | Path) -> Path:
    """Write the report of one run again, or a page that compares several."""
    return write_report(_run(runs[0])) if len(runs) == 1 else compare(*runs)


def compare(*runs: str | Path) -> Path:
    """Write one page that compares two or more runs.

    Raises:
        BadInput: fewer than two runs, or a folder that is no run.
    """
    if len(runs) < 2:
        raise BadInput(f"expected two or more run directories, found {len(runs)}")
    # Importing it takes seconds, which reports of single runs need not wait for.
    from alignlab.measuring.paired import compare_by_prompt

    paths = [_run(run) for run in runs]
    for path in paths:
        refuse_damage(path)
    named = list(zip(run_names(paths), paths, strict=True))
    return compare_runs(paths, paired=compare_by_prompt(named))


def tables(run: str | Path, form: Format = "markdown") -> str:
    """Export every figure of a run; Markdown starts with the main figures, in tables by model."""
    path = _run(run)
    every = export(path, form)
    return f"{markdown(path)}\n{every}" if form == "markdown" else every


def print_as(runs: int, **wanted: bool) -> Format | None:
    """Return the requested form of output; None for a page.

    Args:
        runs: number of runs; CSV takes one, since it has one header line.
        wanted: form -> whether it is requested.

    Raises:
        BadInput: two forms at once, or several runs as CSV.
    """
    chosen = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        raise BadInput(f"report: expected one of --markdown, --csv, --latex, found {len(chosen)}")
    if chosen == ["csv"] and runs > 1:
        raise BadInput(f"report --csv: expected one run, found {runs}")
    forms: dict[str, Format] = {"markdown": "markdown", "csv": "csv", "latex": "latex"}
    return forms[chosen[0]] if chosen else None


def _run(folder: str | Path) -> Path:
    path = Path(folder)
    if not any((path / name).exists() for name in ("manifest.json", "config.yaml")):
        raise BadInput(f"{path}: expected a run directory (with manifest.json), found none")
    return path
