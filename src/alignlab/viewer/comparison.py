"""Compare two runs by their indexes: scores prompt by prompt, and the prompts that flipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignlab.measuring.paired import compare_by_prompt
from alignlab.report.run_comparison import paired_table
from alignlab.report.tables import ReportTable
from alignlab.viewer.index import Index
from alignlab.viewer.library import RunState

MOST = 200
"""Maximum number of flipped prompts shown."""


def paired(first: RunState, second: RunState, mapping: Mapping[str, str]) -> ReportTable | None:
    """Tabulate tested differences of figures that both runs hold; None if there are none."""
    named = [(first.name, first.path), (second.name, second.path)]
    return paired_table(compare_by_prompt(named, mapping))


def compare_indexes(
    first: Index, second: Index, mapping: Mapping[str, str], model: str
) -> dict[str, Any]:
    """List prompts on which the second run's model scores otherwise than the first's.

    Args:
        mapping: model of the first run -> model of the second; equal names are paired without it.
        model: pair of models to show, by the name in the first run; the first pair by default.
    """
    mine, theirs = _scores(first), _scores(second)
    pairs = [(m, mapping.get(m, m)) for m in mine if mapping.get(m, m) in theirs]
    if not pairs:
        return {"pairs": [], "flips": [], "model": "", "other": "", "shared": 0, "flipped": 0}
    chosen = next((pair for pair in pairs if pair[0] == model), pairs[-1])
    a, b = mine[chosen[0]], theirs[chosen[1]]
    shared = [key for key in a if key in b]
    changed = [key for key in shared if a[key]["score"] != b[key]["score"]]
    changed.sort(key=lambda k: -abs(b[k]["score"] - a[k]["score"]))
    return {
        "pairs": pairs,
        "model": chosen[0],
        "other": chosen[1],
        "shared": len(shared),
        "flipped": len(changed),
        "up": sum(b[k]["score"] > a[k]["score"] for k in changed),
        "flips": [(a[k], b[k]) for k in changed[:MOST]],
    }


def _scores(index: Index) -> dict[str, dict[tuple[str, int], dict[str, Any]]]:
    """Return model -> (prompt's cluster, seed) -> answer with its score."""
    found: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
    for row in index.rows(
        "SELECT a.seed, a.prompt, a.model, a.score, p.text AS question, p.cluster, r.text "
        "FROM answers a JOIN prompts p ON p.seed = a.seed AND p.id = a.prompt "
        "JOIN responses r ON r.rid = a.rid WHERE a.score IS NOT NULL"
    ):
        found.setdefault(row["model"], {})[(row["cluster"], row["seed"])] = dict(row)
    return found
