"""Export a run's main figures as Markdown tables, for notes and documentation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from alignlab.errors import BadInput
from alignlab.report.run_data import read_run
from alignlab.types import Drift, EvalResult

JUDGED = (
    ("pairwise_accuracy", "pairwise, ties wrong"),
    ("pairwise_accuracy_ties_half", "pairwise, ties half"),
    ("spearman", "Spearman"),
)
PARTS = 4
"""Number of parts into which the training of a policy is divided."""
BENCHMARKS = {"judge_own_samples": "own samples", "judge_held_out": "held-out groups"}


def markdown(run_dir: Path) -> str:
    """Build a sentence on the judge, and tables of models, judges and policies.

    Models have win rate, score, length, repetition and KL.

    Raises:
        BadInput: not a run directory, a damaged one, or one without figures yet.
    """
    run = read_run(run_dir)
    if not run.results:
        raise BadInput(f"{run_dir}: expected a finished run's figures, found none")
    rows = [row for row in run.results if row.group is None]
    parts = [run.study.judge, _models(rows), _best_of(rows), _judges(rows), _drifts(run.drifts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _models(rows: Sequence[EvalResult]) -> str:
    table = [["model", "score", "win rate", "n", "unscored", "tokens", "4-gram repetition"]]
    far = any(r.metric == "kl" for r in rows)
    if far:
        table[0].append("KL (nats)")
    for model in dict.fromkeys(r.model for r in rows if r.benchmark == "score"):
        score = _find(rows, model, "score", "mean")
        win = _find(rows, model, "head_to_head", "win_rate")
        table.append(
            [
                model,
                _shown(score, 2),
                _shown(win, 3),
                str(score.n if score else 0),
                str(score.unscored if score else 0),
                _shown(_find(rows, model, "text", "tokens"), 1, interval=False),
                _shown(_find(rows, model, "text", "repetition_4"), 3, interval=False),
            ]
        )
        if far:
            table[-1].append(_shown(_find(rows, model, "divergence", "kl"), 1, interval=False))
    return _table(table) if len(table) > 1 else ""


def _best_of(rows: Sequence[EvalResult]) -> str:
    table = [["of the scored samples", "true score", "KL at most (nats)", "prompts"]]
    for row in rows:
        if (row.benchmark, row.metric) == ("best_of_n", "true score"):
            kl = _find(rows, row.model, "best_of_n", "kl_bound")
            shown = [row.model, _shown(row, 2), _shown(kl, 2, interval=False), str(row.n)]
            table.append(shown)
    return _table(table) if len(table) > 1 else ""


def _drifts(drifts: Sequence[Drift]) -> str:
    """Summarise each policy's training in four parts of equal length, means over seeds."""
    table = [["policy", "steps", "KL (nats)", "reward", "true score", "answers"]]
    for model in dict.fromkeys(d.model for d in drifts):
        mine = [d for d in drifts if d.model == model]
        last = max(d.step for d in mine)
        for part in range(PARTS):
            first, end = 1 + part * last // PARTS, (part + 1) * last // PARTS
            some = [d for d in mine if first <= d.step <= end]
            if some:
                kl, reward, truth = (
                    _mean([d.kl for d in some]),
                    _mean([d.reward for d in some]),
                    _mean([d.truth for d in some]),
                )
                answers = str(sum(d.n for d in some))
                table.append([model, f"{first} to {end}", kl, reward, truth, answers])
    return _table(table) if len(table) > 1 else ""


def _mean(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{statistics.fmean(known):.2f}" if known else "-"


def _judges(rows: Sequence[EvalResult]) -> str:
    table = [["judge", "on", *(name for _, name in JUDGED), "pairs", "unscored"]]
    judged = dict.fromkeys((r.model, r.benchmark) for r in rows if r.benchmark in BENCHMARKS)
    for model, benchmark in judged:
        found = [_find(rows, model, benchmark, metric) for metric, _ in JUDGED]
        first = found[0]
        counts = [str(first.n), str(first.unscored)] if first else ["0", "0"]
        table.append([model, BENCHMARKS[benchmark], *(_shown(f, 3) for f in found), *counts])
    return _table(table) if len(table) > 1 else ""


def _find(rows: Iterable[EvalResult], model: str, benchmark: str, metric: str) -> EvalResult | None:
    wanted = (model, benchmark, metric)
    return next((r for r in rows if (r.model, r.benchmark, r.metric) == wanted), None)


def _shown(row: EvalResult | None, digits: int, *, interval: bool = True) -> str:
    if row is None or row.value is None:
        return "-"
    if not interval or row.low is None or row.high is None:
        return f"{row.value:.{digits}f}"
    return f"{row.value:.{digits}f} [{row.low:.{digits}f}, {row.high:.{digits}f}]"


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body])
