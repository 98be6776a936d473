"""Build `summary.json`: the figures of the page in machine-readable form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignlab.report.run_data import RunData
from alignlab.types import EvalResult


def summarise(run: RunData) -> dict[str, Any]:
    """Return the content of summary.json; `parts` holds rows of single seeds or branches."""
    seeds = list(run.manifest.seeds)
    return {
        "recipe": run.manifest.recipe,
        "seed": seeds[0] if seeds else None,
        "seeds": seeds,
        **({"judge": run.study.judge} if run.study.judge else {}),
        "wall_seconds": round(run.wall_seconds, 3),
        "rows": rows(run.results),
        "parts": [
            {"stage": stage, "rows": rows(results)} for stage, results in run.other_results.items()
        ],
    }


def rows(results: Sequence[EvalResult]) -> list[dict[str, Any]]:
    """Return result rows as plain JSON values."""
    return [
        {
            "model": r.model,
            "benchmark": r.benchmark,
            "metric": r.metric,
            "value": r.value,
            "low": r.low,
            "high": r.high,
            "n": r.n,
            "unscored": r.unscored,
            "against": r.against,
            "group": r.group,
            "seeds": list(r.seeds),
            **({} if r.comparable is None else {"comparable": r.comparable}),
        }
        for r in results
    ]
