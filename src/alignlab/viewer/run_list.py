"""List runs with their answers and the settings that differ; search and sort them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alignlab.report import headline
from alignlab.report.run_settings import setting_differences, words
from alignlab.viewer.library import Library, RunState

CHANGING = 6
"""Maximum number of differing settings that have a column."""
_NO_COLUMN = frozenset({"seed", "seeds"})
"""Settings that the list shows in another way."""

Row = dict[str, Any]


def runs(library: Library, query: Mapping[str, str]) -> Row:
    """List runs with their answers.

    Args:
        query: `q` searches names, questions, states and settings (`beta=0.3`; `beta=` shows the
            runs that have the setting); `sort` is a column, with "-" in front to descend.
    """
    found, faults = library.runs()
    searched = query.get("q", "").lower().split()
    rows: list[Row] = [
        {
            "run": run,
            "answer": headline.brief(run.results, run.study.baseline, run.study.options),
        }
        for run in found
    ]
    kept = [row for row in rows if all(_mentions(row, word) for word in searched)]
    asked = tuple(word.partition("=")[0] for word in searched if "=" in word)
    changing = _changing([row["run"] for row in kept], asked)
    for row in kept:
        settings = row["run"].settings
        row["settings"] = {k: words(settings[k]) for k in changing[:CHANGING] if k in settings}
    sort = query.get("sort", "")
    if sort:
        kept.sort(key=lambda row: _order(row, sort.lstrip("-")), reverse=sort.startswith("-"))
    return {
        "rows": kept,
        "faults": faults,
        "total": len(rows),
        "q": query.get("q", ""),
        "sort": sort,
        "changing": changing[:CHANGING],
        "more": changing[CHANGING:],
    }


def _changing(runs: Sequence[RunState], asked: tuple[str, ...]) -> list[str]:
    """Return the settings that differ between runs of one recipe, those asked for first."""
    by_recipe: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        by_recipe.setdefault(run.manifest.recipe, []).append(run.settings)
    differing = {n for some in by_recipe.values() for n, _ in setting_differences(some)}
    named = {n for run in runs for n in run.settings if n.lower().endswith(asked)}
    return [*sorted(named), *sorted(differing - named - _NO_COLUMN)]


def _mentions(row: Row, word: str) -> bool:
    name, equals, value = word.partition("=")
    run: RunState = row["run"]
    if equals:
        having = [words(v).lower() for k, v in run.settings.items() if k.lower().endswith(name)]
        return value in having if value else bool(having)
    texts = (run.name, run.study.question, run.manifest.recipe, run.state, *row["answer"])
    return any(word in text.lower() for text in texts)


def _order(row: Row, by: str) -> Any:
    """Return what a row is sorted by: numbers by size, other settings as texts behind them."""
    run: RunState = row["run"]
    known = {
        "name": run.name,
        "state": run.state,
        "seconds": run.seconds,
        "calls": run.usage.calls,
        "tokens": run.usage.tokens,
        "started": run.manifest.created,
    }
    if by in known:
        return known[by]
    value = run.settings.get(by)
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, words(value))
