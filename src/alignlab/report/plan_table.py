"""Tabulate planned and actual costs of a run: in total, and by branch of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignlab.plan import Outcome, StageOutcome, label
from alignlab.progress import duration
from alignlab.report import headline, labels
from alignlab.report.run_data import RunData, StageRecord
from alignlab.report.tables import Cell, ReportTable
from alignlab.runs import slug
from alignlab.types import EvalResult, Usage

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
    """Tabulate calls, tokens, time and best win rate of each branch, over all seeds.

    None without branches.
    """
    stages = _by_branch(run)
    if len(stages) < 2:
        return None
    known = run.manifest.outcome.stages if run.manifest.outcome else ()
    seeds = max(1, len(run.manifest.seeds))
    best = _best(run, stages)
    rows = tuple(
        (*_cost(name, some, known, seeds), *(_won(best.get(name)) if best else ()))
        for name, some in stages.items()
    )
    columns: tuple[str, ...] = ("Calls", "Prompt tokens", "Tokens", "Time planned", "Time")
    columns += ("Best model", "Win rate") if best else ()
    return ReportTable("Branch", columns, tuple(stages), rows)


def cheapest(run: RunData) -> str:
    """Name the cheapest branch that is not shown to be worse than the best one.

    It must beat the baseline, as must the best branch, and its interval must reach the best one's
    win rate; the difference of two branches is not tested. The cost is the number of tokens read,
    generated and trained on. Empty if no branch beats the baseline.
    """
    stages = _by_branch(run)
    better = {
        name: row
        for name, row in _best(run, stages).items()
        if name != SHARED and headline.decided(row, run.results) == "better"
    }
    if not better:
        return ""
    top = max(better, key=lambda name: better[name].value or 0.0)
    reaching = [n for n, r in better.items() if (r.high or 0.0) >= (better[top].value or 0.0)]
    first = min(reaching, key=lambda name: _tokens(stages[name]))
    cost = f"{_tokens(stages[first]):,} tokens"
    row = better[first]
    found = f"{first} ({cost}; {row.model}, {labels.number(row.value, row.metric)})"
    if first == top:
        return f"The best branch is also the cheapest of those that reach its win rate: {found}."
    return (
        f"The cheapest branch whose interval reaches the win rate of the best one, {top} "
        f"({_tokens(stages[top]):,} tokens; {better[top].model}, "
        f"{labels.number(better[top].value, 'win_rate')}), is {found}; their difference is not "
        "tested."
    )


def _by_branch(run: RunData) -> dict[str, list[StageRecord]]:
    stages: dict[str, list[StageRecord]] = {}
    for stage in run.stages:
        stages.setdefault(branch_of(stage.path), []).append(stage)
    return stages


def _best(run: RunData, stages: Mapping[str, Sequence[StageRecord]]) -> dict[str, EvalResult]:
    """Return the highest win rate of each branch, by the stages that trained the models."""
    found: dict[str, EvalResult] = {}
    for row in headline.comparisons(run.results, run.study.baseline):
        name = slug(row.model)
        branch = next(
            (b for b, some in stages.items() if any(_ends(s.label, name) for s in some)), None
        )
        if branch and (branch not in found or (row.value or 0) > (found[branch].value or 0)):
            found[branch] = row
    return found


def _ends(stage: str, name: str) -> bool:
    return stage.rpartition("/")[2].strip() == name


def _won(row: EvalResult | None) -> tuple[Cell, Cell]:
    if row is None:
        return Cell("–"), Cell("–")
    return Cell(row.model), Cell(labels.number(row.value, row.metric), labels.bounds(row))


def _tokens(stages: Sequence[StageRecord]) -> int:
    return sum(s.usage.prompt_tokens + s.usage.tokens for s in stages)


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
