"""Query held-out answers: one row per prompt, a cell per model, and the interval of a slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignlab.evaluation.metrics.intervals import NOTHING, Interval
from alignlab.evaluation.metrics.win_rate import Outcome, WinRate, win_rate
from alignlab.viewer.filters import PAGE, AnswerFilter, Conditions, refuse_unknown, words
from alignlab.viewer.index import Index
from alignlab.viewer.slices import slice_mean

SORTS = {
    "": "p.text, a.seed",
    "score": "a.score, p.text",
    "-score": "a.score DESC, p.text",
    "tokens": "a.tokens, p.text",
    "-tokens": "a.tokens DESC, p.text",
    "-spread": "a.spread DESC, p.text",
    "-disagree": "abs(a.score - a.other) DESC, p.text",
}
"""Order of rows by the address's `sort`."""

_OUTCOMES = {
    "win": "a.outcome = 1",
    "tie": "a.outcome = 0.5",
    "loss": "a.outcome = 0",
    "unscored": "a.judged > 0",
}
_FLAGS = {
    "cut": "a.cut",
    "identical": "a.same",
    "empty": "trim(r.text) = ''",
    "disagree": "abs(a.score - a.other) >= 1",
    "shorter": "a.tokens < (SELECT b.tokens FROM answers b WHERE b.seed = a.seed AND "
    "b.prompt = a.prompt AND b.model = ?)",
    "longer": "a.tokens > (SELECT b.tokens FROM answers b WHERE b.seed = a.seed AND "
    "b.prompt = a.prompt AND b.model = ?)",
}
FROM = (
    " FROM answers a JOIN prompts p ON p.seed = a.seed AND p.id = a.prompt "
    "JOIN responses r ON r.rid = a.rid"
)


@dataclass(frozen=True)
class Slice:
    """Rows that a filter selects, with the interval of their figures; nothing is tested."""

    rows: int
    prompts: int
    wins: WinRate | None
    """Win rate of the model on these rows; None for the baseline."""
    score: Interval
    tokens: Interval


@dataclass(frozen=True)
class PromptRow:
    """One held-out prompt of one seed, with every model's answer."""

    seed: int
    prompt: str
    text: str
    cells: dict[str, dict[str, Any]]
    """Model -> columns of its answer."""


def models(index: Index, order: Sequence[str] = ()) -> list[str]:
    """Return the models that answered, in the study's order."""
    found = [row[0] for row in index.rows("SELECT DISTINCT model FROM answers")]
    return sorted(found, key=lambda m: (order.index(m) if m in order else len(order), m))


def select(index: Index, asked: AnswerFilter, baseline: str) -> tuple[Slice, list[PromptRow]]:
    """Return the slice of a filter and one page of its rows."""
    where = conditions(asked, baseline)
    figures = index.rows(  # one query, since a search looks at every text
        "SELECT a.seed, a.prompt, p.text, p.cluster, a.outcome, a.judged, a.score, a.tokens"
        f"{FROM}{where.sql} ORDER BY {SORTS[asked.sort]}",
        where.values,
    )
    page = figures[PAGE * (asked.page - 1) :][:PAGE]
    return _slice(figures), [_row(index, *tuple(row)[:3]) for row in page]


def conditions(asked: AnswerFilter, baseline: str) -> Conditions:
    """Translate a filter into SQL conditions on answers `a`, prompts `p` and responses `r`."""
    refuse_unknown("outcome", asked.outcome, _OUTCOMES)
    refuse_unknown("flag", asked.flag, _FLAGS)
    refuse_unknown("sort", asked.sort, SORTS)
    refuse_unknown("part", asked.part.partition(":")[0], ("type", "family"))
    where = Conditions()
    where.add("a.model = ?", asked.model or baseline)
    if asked.outcome:
        where.add(_OUTCOMES[asked.outcome])
    if asked.flag:
        needed = [baseline] * _FLAGS[asked.flag].count("?")
        where.add(_FLAGS[asked.flag], *needed)
    if asked.seed:
        where.add("a.seed = ?", asked.seed)
    kind, _, value = asked.part.partition(":")
    if kind == "type":
        where.add("p.type = ?", value)
    elif kind == "family":
        where.add("p.source LIKE ? ESCAPE '\\'", "%/" + _escaped(value))
    if asked.q and asked.regex:
        where.add("matches(?, r.text) OR matches(?, p.text)", asked.q, asked.q)
    elif searched := words(asked.q):
        where.add(
            "r.rid IN (SELECT rowid FROM response_words WHERE response_words MATCH ?) OR "
            "(a.seed, a.prompt) IN (SELECT seed, id FROM prompt_words WHERE prompt_words MATCH ?)",
            searched,
            f"text : ({searched})",
        )
    return where


def neighbours(
    index: Index, asked: AnswerFilter, baseline: str, seed: int, prompt: str
) -> tuple[tuple[int, str] | None, tuple[int, str] | None, int, int]:
    """Return a row's neighbours, its place from 1 (0 if absent) and the number of rows."""
    where = conditions(asked, baseline)
    keys = [
        (row[0], row[1])
        for row in index.rows(
            f"SELECT a.seed, a.prompt{FROM}{where.sql} ORDER BY {SORTS[asked.sort]}",
            where.values,
        )
    ]
    if (seed, prompt) not in keys:
        return None, None, 0, len(keys)
    at = keys.index((seed, prompt))
    before = keys[at - 1] if at else None
    after = keys[at + 1] if at + 1 < len(keys) else None
    return before, after, at + 1, len(keys)


def parts(index: Index) -> list[tuple[str, int]]:
    """Count held-out prompts by type and family, as the filter `part` names them."""
    found: dict[str, int] = {}
    for row in index.rows(
        "SELECT type, source, count(*) FROM prompts WHERE (seed, id) IN "
        "(SELECT DISTINCT seed, prompt FROM answers) GROUP BY type, source"
    ):
        if row["type"]:
            key = f"type:{row['type']}"
            found[key] = found.get(key, 0) + row[2]
        if "/" in (row["source"] or ""):
            key = f"family:{row['source'].rpartition('/')[2]}"
            found[key] = found.get(key, 0) + row[2]
    return sorted(found.items())


def _slice(figures: Sequence[Any]) -> Slice:
    clusters = [row["cluster"] for row in figures]
    seeds = [row["seed"] for row in figures]
    compared = [
        Outcome(row["cluster"], row["outcome"], row["seed"])
        for row in figures
        if row["outcome"] is not None or row["judged"]
    ]
    scored = [row for row in figures if row["score"] is not None]
    return (
        Slice(
            len(figures),
            len(set(clusters)),
            win_rate(compared) if any(o.value is not None for o in compared) else None,
            slice_mean(
                [row["score"] for row in scored],
                [row["cluster"] for row in scored],
            ),
            slice_mean(
                [row["tokens"] for row in figures],
                clusters,
            ),
        )
        if seeds
        else Slice(0, 0, None, NOTHING, NOTHING)
    )


def _row(index: Index, seed: int, prompt: str, text: str) -> PromptRow:
    cells = index.rows("SELECT * FROM answers WHERE seed = ? AND prompt = ?", (seed, prompt))
    return PromptRow(seed, prompt, text, {cell["model"]: dict(cell) for cell in cells})


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
