"""Tabulate planned and actual costs of a run: in total, and by branch of the study."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.plan import Outcome, StageOutcome, label
from alignlab.progress import duration
from alignlab.report.run_data import RunData, StageRecord
from alignlab.report.tables import Cell, ReportTable
from alignlab.types import Usage

SHARED = "shared by all"
"""Name of the stages outside of branches."""


def planned(run: RunData) -> ReportTable | None:
    """Tabulate predicted and actual time, memory and money; None without a plan."""
    outcome = run.manifest.outcome
    if outcome is None:
        return None
    rows = {"Time": _row(*_times(outcome), outcome.error)}
    if outcome.predicted_gigabytes:
        off = outcome.predicted_gigabytes / outcome.peak_gigabytes - 1
        before, after = f"{outcome.predicted_gigabytes:.2g} GB", f"{outcome.peak_gigabytes:.2g} GB"
        rows["Memory of a process"] = _row(before, after, off)
    if outcome.most_dollars:
        most, paid = f"up to ${outcome.most_dollars:,.2f}", f"${outcome.dollars:,.2f}"
        rows["Money"] = _row(most, paid, None)
    columns = ("Planned", "Happened", "Plan's error")
    return ReportTable("Cost", columns, tuple(rows), tuple(rows.values()))


def parts(run: RunData) -> ReportTable | None:
    """Tabulate calls, tokens and seconds of each branch, over all seeds; None without branches."""
    stages: dict[str, list[StageRecord]] = {}
    for stage in run.stages:
        stages.setdefault(branch_of(stage.path), []).append(stage)
    if len(stages) < 2:
        return None
    known = run.manifest.outcome.stages if run.manifest.outcome else ()
    seeds = max(1, len(run.manifest.seeds))
    rows = tuple(_cost(name, some, known, seeds) for name, some in stages.items())
    columns = ("Calls", "Prompt tokens", "Tokens", "Time planned", "Time")
    return ReportTable("Branch", columns, tuple(stages), rows)


def branch_of(stage: str) -> str:
    """Return the branch of a stage: its first scope below the seed's."""
    first, slash, _ = label(stage).partition("/")
    return first.replace("_", " ") if slash else SHARED


def _cost(
    name: str, stages: Sequence[StageRecord], known: Sequence[StageOutcome], seeds: int
) -> tuple[Cell, ...]:
    usage = Usage()
    for stage in stages:
        usage += stage.usage
    predicted = seeds * sum(s.predicted for s in known if branch_of(s.stage) == name)
    return (
        Cell(f"{usage.calls:,}"),
        Cell(f"{usage.prompt_tokens:,}"),
        Cell(f"{usage.tokens:,}"),
        Cell(duration(predicted) if predicted else "–"),
        Cell(duration(sum(stage.seconds for stage in stages))),
    )


def _times(outcome: Outcome) -> tuple[str, str]:
    predicted = duration(outcome.predicted_seconds) if outcome.predicted_seconds else "–"
    return predicted, duration(outcome.seconds)


def _row(before: str, after: str, off: float | None) -> tuple[Cell, ...]:
    return Cell(before), Cell(after), Cell("–" if off is None else f"{off:+.0%}".replace("-", "−"))
