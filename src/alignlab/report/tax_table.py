"""Relate gains in preference to changes of task scores that need no judge (alignment tax)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alignlab.report import labels
from alignlab.report.headline import CHANCE, verdict
from alignlab.report.line_chart import LineChart, Point, line_chart
from alignlab.report.tables import Cell, ReportTable
from alignlab.types import EvalResult

TASKS = frozenset({"recall", "exact_match", "accuracy", "rouge_l", "bleu", "chrf"})
"""Metrics of tasks with known answers; higher is better."""
LM_EVAL = "lm_eval"
HIGHER = ("acc", "exact_match", "f1", "mc1", "mc2", "pass")
"""Name prefixes of lm_eval's metrics of which higher is better; perplexities are left out."""


@dataclass(frozen=True)
class Tax:
    """Trade of preference against task scores: a table, and one plot per task."""

    table: ReportTable
    planes: tuple[LineChart, ...]
    tested: bool
    """True if some changes have an adjusted verdict."""


def trade(results: Sequence[EvalResult], baseline: str) -> Tax | None:
    """Tabulate win rate minus one half and every task's change against the baseline.

    Args:
        results: the rows of one run, or of several runs of shared models.
        baseline: the model before preference training.

    Returns:
        None if no model has both a win rate against the baseline and a task shared with it.
    """
    wins = {
        r.model: r
        for r in results
        if (r.metric, r.group, r.against) == ("win_rate", None, baseline) and r.value is not None
    }
    scores = {(r.benchmark, r.metric, r.model): r for r in results if _is_task(r)}
    tasks = [key[:2] for key in scores if key[2] == baseline]
    models = [m for m in wins if any((*task, m) in scores for task in tasks)]
    tasks = [task for task in tasks if any((*task, m) in scores for m in models)]
    if not models:
        return None
    changed = {
        (r.benchmark, r.metric.removesuffix("_change"), r.model): r
        for r in results
        if r.metric.endswith("_change") and r.against == baseline
    }
    verdicts = {m: _verdicts(changed, tasks, m, results) for m in models}
    tested = any(verdicts.values())
    rows = tuple(
        (
            _gain(wins[m]),
            *(cell for task in tasks for cell in _task(scores, changed, task, m, baseline)),
            *((Cell(verdicts[m] or "–"),) if tested else ()),
        )
        for m in models
    )
    last = ("change, corrected",) if tested else ()
    heads = ("Preference gained", *_heads(tasks), *last)
    planes = tuple(_plane(wins, scores, task, models, baseline) for task in tasks)
    return Tax(ReportTable("Model", heads, tuple(models), rows), planes, tested)


def _heads(tasks: Sequence[tuple[str, str]]) -> list[str]:
    """Return two column heads per task, prefixed by its benchmark if there are several tasks."""
    heads = []
    for benchmark, metric in tasks:
        for head in (labels.metric(metric), "change"):
            several = f"{labels.benchmark(benchmark)}: {head.lower()}"
            heads.append(several if len(tasks) > 1 else head)
    return heads


def _is_task(row: EvalResult) -> bool:
    known = row.metric in TASKS
    if row.benchmark == LM_EVAL:  # "gsm8k exact_match (flexible-extract)"
        known = row.metric.partition(" ")[2].startswith(HIGHER)
    return known and row.group is None and row.against is None and row.value is not None


def _gain(row: EvalResult) -> Cell:
    between = ""
    if row.low is not None and row.high is not None:
        between = labels.between(row.low - CHANCE, row.high - CHANCE, "recall_change")
    return Cell(labels.points((row.value or 0.0) - CHANCE), between)


def _task(
    scores: dict[tuple[str, str, str], EvalResult],
    changed: dict[tuple[str, str, str], EvalResult],
    task: tuple[str, str],
    model: str,
    baseline: str,
) -> tuple[Cell, Cell]:
    """Return cells of a model's score and its change."""
    row = scores.get((*task, model))
    if row is None:
        return Cell("–"), Cell("–")
    score = Cell(labels.number(row.value, row.metric), labels.bounds(row))
    paired = changed.get((*task, model))
    if paired is not None:
        return score, Cell(labels.number(paired.value, paired.metric), labels.bounds(paired))
    apart = (row.value or 0.0) - (scores[*task, baseline].value or 0.0)
    if row.metric in labels.SHARES:
        return score, Cell(labels.points(apart))
    return score, Cell(labels.number(apart, row.metric).replace("-", "−"))


def _verdicts(
    changed: dict[tuple[str, str, str], EvalResult],
    tasks: Sequence[tuple[str, str]],
    model: str,
    results: Sequence[EvalResult],
) -> str:
    found = [verdict(changed[*t, model], results) for t in tasks if (*t, model) in changed]
    return ", ".join(v for v in found if v)


def _plane(
    wins: dict[str, EvalResult],
    scores: dict[tuple[str, str, str], EvalResult],
    task: tuple[str, str],
    models: Sequence[str],
    baseline: str,
) -> LineChart:
    """Plot one numbered dot per model: right is better at the task, up is preferred."""
    base = scores[*task, baseline].value or 0.0
    shown = [m for m in models if (*task, m) in scores]
    is_share = task[1] in labels.SHARES
    factor = 100 if is_share else 1
    dots = [
        [
            Point(
                factor * ((scores[*task, m].value or 0.0) - base),
                100 * ((wins[m].value or 0.0) - CHANCE),
                None if (low := wins[m].low) is None else 100 * (low - CHANCE),
                None if (high := wins[m].high) is None else 100 * (high - CHANCE),
                m,
            )
        ]
        for m in shown
    ]
    return line_chart(
        labels.benchmark(task[0]),
        dots,
        note=f"against {baseline}",
        x_label=f"change of {labels.metric(task[1]).lower()}{' (pp)' if is_share else ''}",
        y_label="win rate less one half (pp)",
        dots=True,
        names=shown,
    )
