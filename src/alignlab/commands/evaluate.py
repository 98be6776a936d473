"""Evaluate what others produced: files of outputs, annotations or scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignlab.errors import BadInput, unknown_name
from alignlab.evaluation.judge_files import evaluate_judge_files
from alignlab.types import EvalResult


def evaluate(
    benchmark: str, *, scores: str | Path | None = None, reference: str | Path | None = None
) -> list[dict[str, Any]]:
    """Measure files on a benchmark; one row per model or judge, metrics as columns.

    Raises:
        BadInput: unknown benchmark, or files that are missing or bad.
    """
    if benchmark != "judge":
        raise unknown_name("benchmark of files", benchmark, ["judge"])
    if scores is None or reference is None:
        raise BadInput("evaluate judge: expected --scores FILE and --reference FILE")
    return _rows(evaluate_judge_files(Path(scores), Path(reference)))


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text, one metric a line."""
    lines = []
    for row in rows:
        for name, value in row.items():
            lines.append(f"{name:32}  {value}" if name != "model" else f"[{value}]")
    return "\n".join(lines)


def _rows(results: list[EvalResult]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for result in results:
        row = rows.setdefault(result.model, {"model": result.model})
        row[result.metric] = result.value
        if result.low is not None:
            row[f"{result.metric}_low"], row[f"{result.metric}_high"] = result.low, result.high
        row.setdefault("unscored", result.unscored)
    return list(rows.values())
