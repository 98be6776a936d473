"""Write reports of existing runs."""

from __future__ import annotations

from pathlib import Path

from alignlab.errors import BadInput
from alignlab.report import export, markdown, write_report
from alignlab.report.export import Format, compact


def report(*runs: str | Path) -> Path:
    """Write the report of one run again, or a page that compares several."""
    if len(runs) == 1:
        return write_report(run_folder(runs[0]))
    from alignlab.commands.compare import compare

    return compare(*runs).page


def tables(run: str | Path, form: Format = "markdown") -> str:
    """Export every figure of a run.

    Markdown and LaTeX start with a compact table of win rates; Markdown goes on with the main
    figures, in tables by model.
    """
    path = run_folder(run)
    every = export(path, form)
    if form == "csv":
        return every
    main = markdown(path) if form == "markdown" else ""
    return "\n".join(part for part in (compact(path, form), main, every) if part)


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


def run_folder(folder: str | Path) -> Path:
    """Return a run directory's path.

    Raises:
        BadInput: not a run directory.
    """
    path = Path(folder)
    if not any((path / name).exists() for name in ("manifest.json", "config.yaml")):
        raise BadInput(f"{path}: expected a run directory (with manifest.json), found none")
    return path
