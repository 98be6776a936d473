"""Query training data: pairs and demonstrations of a stage, and how many are inverted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignlab.evaluation.metrics.intervals import Interval, share_interval
from alignlab.viewer.filters import PAGE, Conditions, DataFilter, refuse_unknown, words
from alignlab.viewer.index import Index
from alignlab.viewer.slices import slice_mean

SORTS = {
    "": "g.gid",
    "-gap": "g.gap DESC, g.gid",
    "gap": "g.gap, g.gid",
    "-longer": "g.longer DESC",
}
"""Order of pairs by the address's `sort`."""

_SHOW = {
    "inverted": "g.inverted = 1",
    "shorter": "g.longer < 0",
    "longer": "g.longer > 0",
}
_GOLD = "(SELECT value FROM truth t WHERE t.seed = g.seed AND t.response = g.{0}) AS gold_{0}"
_FROM = (
    " FROM pairs g JOIN prompts p ON p.seed = g.seed AND p.id = g.prompt "
    "JOIN responses w ON w.seed = g.seed AND w.id = g.chosen "
    "JOIN responses l ON l.seed = g.seed AND l.id = g.rejected"
)


@dataclass(frozen=True)
class PairSlice:
    """Pairs that a filter selects, with shares and their intervals over prompts."""

    rows: int
    judged: int
    """Pairs for which both gold scores are known."""
    inverted: Interval
    """Share of pairs whose chosen response has the lower gold score."""
    longer: Interval
    """Share of pairs whose chosen response is longer, in characters; equal lengths count half."""
    gap: Interval
    """Mean difference of the scores."""


@dataclass(frozen=True)
class DataStage:
    """Stage with training data."""

    stage: str
    pairs: int
    demonstrations: int


def stages(index: Index) -> list[DataStage]:
    """Return the stages that hold pairs or demonstrations."""
    pairs = dict(map(tuple, index.rows("SELECT stage, count(*) FROM pairs GROUP BY stage")))
    shown = dict(
        map(tuple, index.rows("SELECT stage, count(*) FROM demonstrations GROUP BY stage"))
    )
    names = sorted({*pairs, *shown})
    return [DataStage(name, pairs.get(name, 0), shown.get(name, 0)) for name in names]


def select(index: Index, asked: DataFilter) -> tuple[PairSlice, list[dict[str, Any]]]:
    """Return the slice of a filter and one page of its pairs."""
    where = _conditions(asked)
    figures = index.rows(  # one query, since a search looks at every text
        f"SELECT g.gid, g.inverted, g.longer, g.gap, p.cluster{_FROM}{where.sql} "
        f"ORDER BY {SORTS[asked.sort]}",
        where.values,
    )
    page = [row["gid"] for row in figures[PAGE * (asked.page - 1) :][:PAGE]]
    found = index.rows(
        "SELECT g.*, p.text AS question, w.text AS chosen_text, l.text AS rejected_text, "
        "w.tokens AS chosen_tokens, l.tokens AS rejected_tokens, "
        f"{_GOLD.format('chosen')}, {_GOLD.format('rejected')}{_FROM} "
        f"WHERE g.gid IN ({', '.join('?' * len(page))})",
        page,
    )
    return _slice(figures), sorted(map(dict, found), key=lambda row: page.index(row["gid"]))


def demonstrations(index: Index, asked: DataFilter) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of demonstrations of a stage and one page of them."""
    where = Conditions()
    if asked.stage:
        where.add("d.stage = ?", asked.stage)
    if searched := words(asked.q):
        where.add(
            "r.rid IN (SELECT rowid FROM response_words WHERE response_words MATCH ?)", searched
        )
    join = (
        " FROM demonstrations d JOIN prompts p ON p.seed = d.seed AND p.id = d.prompt "
        "JOIN responses r ON r.seed = d.seed AND r.id = d.response"
    )
    total = index.one(f"SELECT count(*){join}{where.sql}", where.values)
    page = index.rows(
        f"SELECT d.*, p.text AS question, r.text, r.tokens, r.model{join}{where.sql} "
        f"ORDER BY d.did LIMIT {PAGE} OFFSET ?",
        (*where.values, PAGE * (asked.page - 1)),
    )
    return total, [dict(row) for row in page]


def dropped(index: Index, stage: str) -> list[dict[str, Any]]:
    """Return what a stage kept and dropped, with reasons."""
    return [count for name, count in counts(index) if name == stage]


def counts(index: Index) -> list[tuple[str, dict[str, Any]]]:
    """Return the counts of all stages; a stage under way has those of its chunks so far."""
    rows = index.rows(
        "SELECT c.stage, c.record, f.path LIKE '%/lost.jsonl' AS partial "
        "FROM counts c JOIN files f ON f.id = c.file"
    )
    # A finished stage's own counts hold what its chunks lost.
    whole = {row["stage"] for row in rows if not row["partial"]}
    return [
        (row["stage"], json.loads(row["record"]))
        for row in rows
        if not (row["partial"] and row["stage"] in whole)
    ]


def _conditions(asked: DataFilter) -> Conditions:
    refuse_unknown("show", asked.show, _SHOW)
    refuse_unknown("sort", asked.sort, SORTS)
    where = Conditions()
    for name in ("stage", "seed"):
        if value := getattr(asked, name):
            where.add(f"g.{name} = ?", value)
    if asked.show:
        where.add(_SHOW[asked.show])
    if asked.q and asked.regex:
        where.add("matches(?, w.text) OR matches(?, l.text) OR matches(?, p.text)", *[asked.q] * 3)
    elif searched := words(asked.q):
        found = "(SELECT rowid FROM response_words WHERE response_words MATCH ?)"
        where.add(
            f"w.rid IN {found} OR l.rid IN {found} OR "
            "(p.seed, p.id) IN (SELECT seed, id FROM prompt_words WHERE prompt_words MATCH ?)",
            searched,
            searched,
            f"text : ({searched})",
        )
    return where


def _slice(figures: Sequence[Any]) -> PairSlice:
    clusters = [row["cluster"] for row in figures]
    known = [row for row in figures if row["inverted"] is not None]
    return PairSlice(
        len(figures),
        len(known),
        share_interval([row["inverted"] for row in known], [row["cluster"] for row in known]),
        share_interval([_longer(row["longer"]) for row in figures], clusters),
        slice_mean([row["gap"] for row in figures], clusters),
    )


def _longer(difference: int) -> float:
    return 0.5 if difference == 0 else float(difference > 0)
