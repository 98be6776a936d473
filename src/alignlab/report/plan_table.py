"""Tabulate planned and actual costs of a run: in total, and by branch of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from alignlab.plan import PlanAccuracy, StageOutcome, label
from alignlab.progress import duration
from alignlab.report import headline, labels
from alignlab.report.run_data import Manifest, RunData, StageRecord
from alignlab.report.tables import Cell, ReportTable
from alignlab.runs import slug
from alignlab.types import EvalResult, StudyDescription, Usage

SHARED = "shared by all"
"""Name of the stages outside of branches."""


class CostedRun(Protocol):
    """Run, as the report or the viewer read it."""

    @property
    def manifest(self) -> Manifest:
        """Manifest with the seeds and the planned costs."""

    @property
    def study(self) -> StudyDescription:
        """Baseline of the study."""

    @property
    def stages(self) -> Sequence[StageRecord]:
        """Stages with their costs."""

    @property
    def results(self) -> Sequence[EvalResult]:
        """Figures of the models."""


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


def parts(run: CostedRun) -> ReportTable | None:
    """Tabulate calls, tokens, money, time and best win rate of each branch, over all seeds.

    Money is that of completions at the prices set, processor time that of the stages' own
    processes, shaded by its share; columns without any are left out. None without branches.
    """
    stages = _by_branch(run)
    if len(stages) < 2:
        return None
    known = run.manifest.outcome.stages if run.manifest.outcome else ()
    seeds = max(1, len(run.manifest.seeds))
    best = _best(run, stages)
    is_paid = any(stage.usage.usd for stage in run.stages)
    cpu = sum(stage.cpu_seconds for stage in run.stages)
    rows = tuple(
        (
            *_cost(some),
            *((Cell(_dollars(some)),) if is_paid else ()),
            *_time(name, some, known, seeds),
            *((_cpu_time(some, cpu),) if cpu else ()),
            *(_won(best.get(name)) if best else ()),
        )
        for name, some in stages.items()
    )
    columns: tuple[str, ...] = ("Calls", "Prompt tokens", "Tokens")
    columns += (*(("Money",) if is_paid else ()), "Time planned", "Time")
    columns += ("Processor time",) if cpu else ()
    columns += ("Best model", "Win rate") if best else ()
    return ReportTable("Branch", columns, tuple(stages), rows)


def cheapest(run: CostedRun) -> str:
    """Name the cheapest branch that is not shown to be worse than the best one.

    It must beat the baseline, as must the best branch, and its interval must reach the best one's
    win rate; the difference of two branches is not tested. The cost is the money paid, and where
    that is equal the number of tokens read, generated and trained on. Empty if no branch beats the
    baseline.
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
    first = min(reaching, key=lambda name: (_usd(stages[name]), _tokens(stages[name])))
    row = better[first]
    found = (
        f"{first} ({_price(stages[first])}; {row.model}, {labels.number(row.value, row.metric)})"
    )
    if first == top:
        return f"The best branch is also the cheapest of those that reach its win rate: {found}."
    return (
        f"The cheapest branch whose interval reaches the win rate of the best one, {top} "
        f"({_price(stages[top])}; {better[top].model}, "
        f"{labels.number(better[top].value, 'win_rate')}), is {found}; their difference is not "
        "tested."
    )


def _by_branch(run: CostedRun) -> dict[str, list[StageRecord]]:
    stages: dict[str, list[StageRecord]] = {}
    for stage in run.stages:
        stages.setdefault(branch_of(stage.path), []).append(stage)
    return stages


def _best(run: CostedRun, stages: Mapping[str, Sequence[StageRecord]]) -> dict[str, EvalResult]:
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


def _usage(stages: Sequence[StageRecord]) -> Usage:
    total = Usage()
    for stage in stages:
        total += stage.usage
    return total


def _usd(stages: Sequence[StageRecord]) -> float:
    return _usage(stages).usd


def _tokens(stages: Sequence[StageRecord]) -> int:
    usage = _usage(stages)
    return usage.prompt_tokens + usage.tokens


def _price(stages: Sequence[StageRecord]) -> str:
    """Format the cost of a branch: money where some was paid, and tokens."""
    paid = f"{_dollars(stages)}, " if _usd(stages) else ""
    return f"{paid}{_tokens(stages):,} tokens"


def _dollars(stages: Sequence[StageRecord]) -> str:
    usd = _usd(stages)
    return f"${usd:,.2f}" if usd >= 0.1 or not usd else f"${usd:.2g}"


def branch_of(stage: str) -> str:
    """Return the branch of a stage: its first scope below the seed's."""
    first, slash, _ = label(stage).partition("/")
    return first.replace("_", " ") if slash else SHARED


def _cost(stages: Sequence[StageRecord]) -> tuple[Cell, ...]:
    usage = _usage(stages)
    return tuple(Cell(f"{n:,}") for n in (usage.calls, usage.prompt_tokens, usage.tokens))


def _time(
    name: str, stages: Sequence[StageRecord], known: Sequence[StageOutcome], seeds: int
) -> tuple[Cell, ...]:
    predicted = seeds * sum(s.predicted for s in known if branch_of(s.stage) == name)
    return (
        Cell(duration(predicted) if predicted else "–"),
        Cell(duration(sum(stage.seconds for stage in stages))),
    )


def _cpu_time(stages: Sequence[StageRecord], total: float) -> Cell:
    seconds = sum(stage.cpu_seconds for stage in stages)
    return Cell(duration(seconds), shade=round(seconds / total, 3))


def _times(outcome: PlanAccuracy) -> tuple[str, str]:
    predicted = duration(outcome.predicted_seconds) if outcome.predicted_seconds else "–"
    return predicted, duration(outcome.seconds)


def _row(before: str, after: str, off: float | None) -> tuple[Cell, ...]:
    return Cell(before), Cell(after), Cell("–" if off is None else f"{off:+.0%}".replace("-", "−"))
