"""Query judgements: what a judge read and replied, with the gold score where there is one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignlab.evaluation.metrics.intervals import Interval
from alignlab.viewer.filters import PAGE, Conditions, JudgementFilter, refuse_unknown, words
from alignlab.viewer.index import Index
from alignlab.viewer.slices import slice_mean

SORTS = {
    "": "f.fid",
    "-error": "abs(f.error) DESC, f.fid",
    "error": "abs(f.error), f.fid",
    "-spread": "f.spread DESC, f.fid",
    "value": "f.value, f.fid",
    "-value": "f.value DESC, f.fid",
}
"""Order of rows by the address's `sort`."""

FEW = 100
"""Number of prompts from which the calibration's intervals are normal: one is drawn per score."""

_FROM = (
    " FROM feedback f LEFT JOIN responses r ON r.seed = f.seed AND r.id = f.first "
    "LEFT JOIN prompts p ON p.seed = f.seed AND p.id = f.prompt"
)
_COLUMNS = (
    "f.*, r.text AS response, r.model AS model, r.tokens AS tokens, p.text AS question, "
    "p.cluster AS cluster"
)


@dataclass(frozen=True)
class JudgementSlice:
    """Judgements that a filter selects, with intervals clustered by prompt; nothing is tested."""

    rows: int
    unread: int
    error: Interval
    """Mean absolute difference from the gold score."""
    bias: Interval
    """Mean of score less gold score."""
    confusion: tuple[tuple[int, int, int], ...]
    """(Score read, gold score, judgements), both rounded."""
    calibration: tuple[tuple[int, Interval], ...] = ()
    """Score read, rounded, and the mean gold score of its judgements."""


def select(index: Index, asked: JudgementFilter) -> tuple[JudgementSlice, list[dict[str, Any]]]:
    """Return the slice of a filter and one page of its rows."""
    where = conditions(asked)
    figures = index.rows(  # one query, since a search looks at every text
        f"SELECT f.fid, f.kind, f.value, f.truth, f.error, p.cluster{_FROM}{where.sql} "
        f"ORDER BY {SORTS[asked.sort]}",
        where.values,
    )
    page = [row["fid"] for row in figures[PAGE * (asked.page - 1) :][:PAGE]]
    found = index.rows(
        f"SELECT {_COLUMNS}{_FROM} WHERE f.fid IN ({', '.join('?' * len(page))})", page
    )
    return _slice(figures), sorted(map(shown, found), key=lambda row: page.index(row["fid"]))


def one(index: Index, fid: int) -> dict[str, Any] | None:
    """Return one judgement with its prompt, answers, raw replies and other judges' verdicts."""
    rows = index.rows(f"SELECT {_COLUMNS}, p.turns, p.reference{_FROM} WHERE f.fid = ?", (fid,))
    if not rows:
        return None
    found = shown(rows[0])
    found["turns"] = json.loads(found["turns"] or "[]")
    found["against"] = index.rows(
        "SELECT * FROM responses WHERE seed = ? AND id = ?", (found["seed"], found["second"])
    )
    found["others"] = [
        shown(row)
        for row in index.rows(
            f"SELECT {_COLUMNS}{_FROM} WHERE f.seed = ? AND f.first = ? AND f.fid != ? "
            "AND (f.second IS ?) ORDER BY f.fid",
            (found["seed"], found["first"], fid, found["second"]),
        )
    ]
    found["origin"] = index.one(
        "SELECT origin FROM truth WHERE seed = ? AND response = ?", (found["seed"], found["first"])
    )
    return found


def choices(index: Index) -> dict[str, list[tuple[str, int]]]:
    """Count judgements by stage, source and kind, for the filter's lists."""
    return {
        column: [
            (row[0], row[1])
            for row in index.rows(
                f"SELECT {column}, count(*) FROM feedback GROUP BY {column} ORDER BY {column}"
            )
        ]
        for column in ("stage", "source", "kind")
    }


def conditions(asked: JudgementFilter) -> Conditions:
    """Translate a filter into SQL conditions on feedback `f`, responses `r` and prompts `p`."""
    refuse_unknown("sort", asked.sort, SORTS)
    where = Conditions()
    for name in ("stage", "source", "kind", "seed"):
        if value := getattr(asked, name):
            where.add(f"f.{name} = ?", value)
    for name, column in (("read", "value"), ("truth", "truth")):
        if value := getattr(asked, name):
            where.add(f"round(f.{column}) = CAST(? AS REAL)", value)
    if asked.sort in ("-error", "error"):
        where.add("f.error IS NOT NULL")
    if asked.sort == "-spread":
        where.add("f.spread IS NOT NULL")
    if asked.q and asked.regex:
        where.add(
            "matches(?, r.text) OR matches(?, p.text) OR matches(?, f.raw) "
            "OR matches(?, f.rationale)",
            *[asked.q] * 4,
        )
    elif searched := words(asked.q):
        where.add(
            "f.fid IN (SELECT rowid FROM feedback_words WHERE feedback_words MATCH ?) OR "
            "r.rid IN (SELECT rowid FROM response_words WHERE response_words MATCH ?) OR "
            "(f.seed, f.prompt) IN (SELECT seed, id FROM prompt_words WHERE prompt_words MATCH ?)",
            searched,
            searched,
            f"text : ({searched})",
        )
    return where


def shown(row: Any) -> dict[str, Any]:
    """Return a row with its samples and raw replies parsed and a verdict in words."""
    found = dict(row)
    found["samples"] = json.loads(found["samples"] or "[]")
    found["raw"] = json.loads(found["raw"] or "[]")
    found["verdict"] = _verdict(found)
    return found


def _verdict(row: dict[str, Any]) -> str:
    kind = row["kind"]
    if kind == "score":
        return f"{row['value']:.3g}"
    if kind == "preference":
        return "tie" if row["winner"] is None else ("first better", "second better")[row["winner"]]
    if kind == "ranking":
        return "ranks " + ", ".join(str(rank + 1) for rank in row["samples"])
    return f"unscored: {row['reason']}" if kind == "unscored" else "critique"


def _slice(figures: Sequence[Any]) -> JudgementSlice:
    known = [row for row in figures if row["error"] is not None]
    clusters = [row["cluster"] for row in known]
    cells: dict[tuple[int, int], int] = {}
    by_read: dict[int, list[Any]] = {}
    for row in known:
        key = (_round(row["value"]), _round(row["truth"]))
        cells[key] = cells.get(key, 0) + 1
        by_read.setdefault(key[0], []).append(row)
    return JudgementSlice(
        len(figures),
        sum(row["kind"] == "unscored" for row in figures),
        slice_mean([abs(row["error"]) for row in known], clusters),
        slice_mean([row["error"] for row in known], clusters),
        tuple((read, truth, n) for (read, truth), n in sorted(cells.items())),
        tuple(
            (read, slice_mean([r["truth"] for r in rows], [r["cluster"] for r in rows], many=FEW))
            for read, rows in sorted(by_read.items())
        ),
    )


def _round(value: float) -> int:
    """Round half away from zero, as SQLite does."""
    return int(value + 0.5) if value >= 0 else -int(-value + 0.5)
