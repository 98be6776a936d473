"""Format the head and the ending of a study for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from alignlab.plan import Plan
from alignlab.report.headline import comparisons, decided, derive, with_judge
from alignlab.report.labels import bounds, number
from alignlab.report.run_data import RunData
from alignlab.text import shortened, without_folders
from alignlab.types import EvalResult

WIDTH = 80
ROWS = 5
"""Most rows of the ending's table."""


def head(plan: Plan, question: str) -> str:
    """Format a plan's question, folder, model, data, models, calls and time."""
    does = "resumes" if plan.resumes else "writes"
    seeds = f", {plan.seeds} seeds" if plan.seeds > 1 else ""
    return "\n".join(
        [
            *_wrapped(question),
            *_entry("folder", f"{does} {plan.out}{seeds}"),
            *_entry("model", plan.model),
            *_entry("data", ", ".join(f"{one.used:,} {one.what}" for one in plan.data)),
            *_entry("models", ", ".join(plan.models)),
            *_entry("asks for", "; ".join(f"{c.number:,} {c.what} by {c.by}" for c in plan.calls)),
            *_entry("stages", f"{len(plan.stages)} compute on this machine" if plan.stages else ""),
            *_entry("time", "; ".join([str(plan.time), plan.time.basis]) if plan.time else ""),
            *_entry("money", ", ".join(map(str, plan.money))),
        ]
    )


def ending(run: RunData) -> str:
    """Format a run's answer, the comparisons of up to five models, and next commands."""
    study = run.study
    found = with_judge(derive(run.results, study.baseline, study.options), study)
    said = [*found.options, found.second] if found.options else [f"{found.first} {found.second}"]
    rows = sorted(comparisons(run.results, run.study.baseline), key=lambda r: -(r.value or 0))
    folder = run.path
    return "\n".join(
        [
            *(
                line
                for text in (without_folders(study.judge), *said)
                if text
                for line in _wrapped(text)
            ),
            *_table(rows, run.results, {m for some in study.options.values() for m in some}),
            "",
            *_entry("time", str(run.manifest.outcome) if run.manifest.outcome else ""),
            *_entry("report", _link(folder / "report.html")),
            *_entry("next", f"alignlab view {folder}    every record behind the figures"),
            *_entry("", f"alignlab report {folder} --csv    every figure as a table"),
            *_entry("", f"alignlab compare {folder} OTHER_RUN    against another run"),
        ]
    )


def _link(page: Path) -> str:
    return page.resolve().as_uri()


def _table(
    rows: Sequence[EvalResult], results: Sequence[EvalResult], asked: Collection[str]
) -> list[str]:
    """Format models by win rate: those that the question names, and the best others.

    Args:
        rows: a win rate of each model, falling.
        asked: models that the study's question names.
    """
    if not rows:
        return []
    against = rows[0].against or "the baseline"
    title = f"against {against}"
    lines = ["", f"  {title:36.36}{'win rate':>10}  {'95% interval':16} verdict"]
    chosen = sorted(rows, key=lambda row: row.model not in asked)[:ROWS]
    for row in sorted(chosen, key=rows.index):
        verdict = {"better": "better", "worse": "worse"}.get(decided(row, results), "not shown")
        name = shortened(row.model, 34)
        interval = bounds(row)
        lines.append(f"  {name:36}{number(row.value, row.metric):>10}  {interval:16} {verdict}")
    if len(rows) > ROWS:
        lines.append(f"  and {len(rows) - ROWS} more in the report")
    return lines


def _entry(title: str, text: str) -> list[str]:
    """Format an entry with its title before the first line; none where it is empty."""
    if not text:
        return []
    lines = _wrapped(text, WIDTH - 12)
    return [f"  {title if i == 0 else '':10}{line}" for i, line in enumerate(lines)]


def _wrapped(text: str, width: int = WIDTH) -> Iterable[str]:
    """Break a text into lines; words longer than a line, such as paths, stay whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
