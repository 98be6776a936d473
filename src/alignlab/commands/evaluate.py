"""Evaluate existing annotations and scores of judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from alignlab.commands._support.tables import Evaluated, empty_table
from alignlab.evaluation.benchmarks.alpaca_eval import AlpacaEval, AlpacaEvalResult
from alignlab.evaluation.benchmarks.arena_hard import judgement_rows
from alignlab.evaluation.human_comparisons import human_rows
from alignlab.evaluation.judge_files import evaluate_judge_files
from alignlab.measuring.people import corrected_win_rates
from alignlab.records import to_dict
from alignlab.types import EvalResult

RATES = {"win_rate": "win rate", "lc_win_rate": "length-controlled"}
"""Metrics shown with intervals -> their column heads."""
COUNTS = ("won", "lost", "drawn", "n", "missing", "length")


def judge(scores: str | Path, reference: str | Path) -> Evaluated:
    """Measure a judge's scores against reference scores.

    Args:
        scores: the judge's scores.
        reference: reference scores of the same responses.

    Raises:
        BadInput: an unreadable file or record, or files without common responses.
    """
    results = evaluate_judge_files(Path(scores), Path(reference))
    rows: dict[str, dict[str, Any]] = {}
    for result in results:
        row = rows.setdefault(result.model, {"model": result.model})
        row[result.metric] = result.value
        if result.low is not None:
            row[f"{result.metric}_low"], row[f"{result.metric}_high"] = result.low, result.high
        row.setdefault("unscored", result.unscored)
    return Evaluated(tuple(rows.values()), _judge_table(results))


def alpaca_eval(
    annotations: str | Path,
    *,
    difficulty: str | Path | None = None,
    weights: str | Path | None = None,
    gamed: str | Path | None = None,
    difficulty_by: Literal["instruction", "row"] = "instruction",
    preferences: Literal["stored", "tokens"] = "stored",
) -> Evaluated:
    """Measure models by AlpacaEval 2.0 annotations: win rates, plain and length-controlled.

    Rates are in per cent. `lc_win_rate` is None without difficulties and either published weights
    or gamed baselines for a refit.

    Args:
        annotations: annotations.json or a CSV, also .gz.
        difficulty: CSV of difficulties, for length-controlled figures.
        weights: CSV of published weights, with --difficulty.
        gamed: CSV of gamed baselines for a refit, with --difficulty.
        difficulty_by: row: as on the leaderboard for models with missing rows.
        preferences: tokens: recompute them from the judge's log-probabilities.

    Raises:
        BadInput: an unreadable file or record, or options that have no effect together.
    """
    files = (_path(difficulty), _path(weights), _path(gamed))
    benchmark = AlpacaEval(*files, difficulty_by=difficulty_by, preferences=preferences)
    results = benchmark.evaluate(Path(annotations))
    return Evaluated(tuple(to_dict(result) for result in results), _alpaca_eval_table(results))


def arena_hard(annotations: str | Path) -> Evaluated:
    """Measure models by Arena-Hard's judgements: win rates over the baseline, as published.

    Args:
        annotations: the judge's file on one or more models, model_judgment/JUDGE/MODEL.jsonl.

    Raises:
        BadInput: an unreadable file or record.
    """
    return _rows("arena_hard", judgement_rows(Path(annotations)))


def human_eval(annotations: str | Path) -> Evaluated:
    """Measure models by Tulu's human evaluation: win rates, acceptance, agreement.

    Args:
        annotations: eval_annotations.xlsx, or the sheet as CSV, JSONL or JSON.

    Raises:
        BadInput: an unreadable file or record.
    """
    return _rows("human_eval", human_rows(Path(annotations)))


def win_rates(run: str | Path, people: str | Path) -> Evaluated:
    """Correct a study's win rates by a few human ratings (prediction-powered inference).

    Args:
        run: run directory of a study.
        people: ratings of its answers, by `annotations import ... --to feedback`.

    Raises:
        BadInput: a run without comparisons, or ratings of none of their pairs.
    """
    return _rows("win_rates", corrected_win_rates(Path(run), Path(people)))


def _rows(name: str, rows: Sequence[EvalResult]) -> Evaluated:
    from alignlab.commands.benchmark import as_json, rows_table

    return Evaluated(as_json(rows), rows_table(name, rows))


def _path(file: str | Path | None) -> Path | None:
    return None if file is None else Path(file)


def _judge_table(results: Sequence[EvalResult]) -> Table:
    first = results[0]
    columns = ("metric", "value", "95% interval", "n")
    table = empty_table(f"{first.model} against {first.against}", columns)
    for r in results:
        value = "-" if r.value is None else f"{r.value:{'g' if r.value.is_integer() else '.4f'}}"
        between = "" if r.low is None else f"{r.low:.3f} to {r.high:.3f}"
        table.add_row(r.metric, value, between, f"{r.n:,}")
    table.add_row("unscored", f"{first.unscored:,}")
    return table


def _alpaca_eval_table(results: Sequence[AlpacaEvalResult]) -> Table:
    controlled = any(r.lc_win_rate is not None for r in results)
    rates = [name for name in RATES if controlled or name != "lc_win_rate"]
    heads = [head for name in rates for head in (RATES[name], "")]
    table = empty_table(
        "AlpacaEval 2.0: rates in per cent, 95% intervals", ("model", *heads, "discrete", *COUNTS)
    )
    for r in results:
        found = {row.metric: row for row in r.rows()}
        cells = [cell for rate in rates for cell in _rate(found.get(rate))]
        discrete, _ = _rate(found.get("discrete_win_rate"))
        counts = (r.n_wins, r.n_wins_base, r.n_draws, r.n_total, r.n_missing, r.avg_length)
        table.add_row(r.model, *cells, discrete, *map(str, counts))
    return table


def _rate(row: EvalResult | None) -> tuple[str, str]:
    """Format a share in per cent, and its interval."""
    if row is None:
        return "-", ""
    between = "" if row.low is None else f"{_cent(row.low)} to {_cent(row.high)}"
    return _cent(row.value), between


def _cent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
