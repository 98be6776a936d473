"""Layouts with one rating per row: the rows of a prompt become one group.

The ratings of an answer by one rater are summed (errors marked in it, for example); its score is
the mean over raters. An answer with an unreadable rating is left out, as a score without that
rating would be too high or too low.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from typing import Any, NamedTuple

from alignlab.data.build_records import (
    BuildResult,
    Dropped,
    Origin,
    ResponseDraft,
    group,
    with_changes,
)
from alignlab.data.formats import Format, corpus_of, placed
from alignlab.data.options import Options
from alignlab.data.read import Faults, RawTable
from alignlab.data.rows import Row
from alignlab.data.unread import UnreadFields
from alignlab.errors import BadInput
from alignlab.registry import register
from alignlab.types import Corpus, Message

UNREADABLE = "response with an unreadable rating left out"
UNKNOWN = "unreadable rating of an unknown response"


@dataclass(frozen=True)
class Rated:
    """Rating read from one row."""

    messages: tuple[Message, ...]
    answer: ResponseDraft
    """Answer, scored with this row's summand of the rating."""
    origin: Origin
    rater: str = ""


RatedOf = Callable[[Row, Any], Rated]


class _Writing(NamedTuple):
    """Model and text of an answer, for matching ratings."""

    model: str
    text: str


@dataclass
class _Asked:
    """Ratings of the answers to one prompt, of the training or the held-out side."""

    row: Row
    """First row of the prompt."""
    rated: list[Rated] = field(default_factory=list)
    unreadable: set[_Writing | None] = field(default_factory=set)
    """Answers with an unreadable rating; None for an unknown answer."""


def grouped_format(
    name: str, *, columns: Iterable[Iterable[str]], options: type[Options] = Options
) -> Callable[[RatedOf], Format]:
    """Register a layout whose rows are grouped by prompt; the decorated function reads one row."""

    def wrap(rated: RatedOf) -> Format:
        def corpus(self: Format, table: RawTable, chosen: Options, faults: Faults) -> Corpus:
            unread = UnreadFields(table.rows, chosen.ignore)
            table = unread.watched_table(table)
            asked = group_rows(table, rated, chosen, faults)
            table = unread.counted(table)
            held_out = {messages for messages, is_test in asked if is_test}
            results = [
                # Also if no held-out record of the prompt is usable, unknown to split_dedupe.
                Dropped("prompt is held out")
                if messages in held_out and not is_test
                else placed(_group(each), each.row, chosen)
                for (messages, is_test), each in asked.items()
                if each.rated
            ]
            return corpus_of(self.name, results, table, chosen, faults)

        sets = tuple(frozenset(c) for c in columns)
        doc = (rated.__doc__ or "").strip().splitlines()[0]
        return register("data", name)(Format(name, doc, sets, options, corpus))

    return wrap


def group_rows(
    table: RawTable, rated: RatedOf, options: Options, faults: Faults
) -> dict[tuple[tuple[Message, ...], bool], _Asked]:
    """Group rows by prompt and side (held out or not), in the order of the file."""
    asked: dict[tuple[tuple[Message, ...], bool], _Asked] = {}
    good: list[Row] = []
    bad: list[Row] = []
    for row in table.rows:
        try:
            rating = rated(row, options)
        except BadInput as error:
            faults.add(error)
            bad.append(row)
            continue
        asked.setdefault((rating.messages, row.held_out), _Asked(row)).rated.append(rating)
        good.append(row)
    samples = _samples(good) if bad else {}
    for row in bad:
        about = _mended(row, rated, options, samples)
        # Unknown if the row has no reading at all, or its prompt is the unreadable field.
        if about and len({each.messages for each in about}) == 1:
            place = asked.setdefault((about[0].messages, row.held_out), _Asked(row))
            writings = {_writing(each) for each in about}
            place.unreadable.add(writings.pop() if len(writings) == 1 else None)
    return asked


def _samples(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """Collect two different values of each field, or its only one."""
    samples: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.values.items():
            values = samples.setdefault(name, [])
            if len(values) < 2 and value not in values:
                values.append(value)
    return samples


def _mended(
    row: Row, rated: RatedOf, options: Options, samples: Mapping[str, Sequence[Any]]
) -> list[Rated]:
    """Read a bad row with its bad field replaced by values of good rows.

    The common parts of the readings identify prompt and answer. Empty if more than one field is
    bad.
    """
    for name, values in samples.items():
        try:
            return [
                rated(replace(row, values={**row.values, name: value}), options) for value in values
            ]
        except BadInput:
            continue
    return []


def _writing(rated: Rated) -> _Writing:
    return _Writing(rated.answer.model, rated.answer.text)


def scored(rated: Iterable[Rated]) -> list[ResponseDraft]:
    """Score each distinct answer by its mean over raters, in order of first appearance."""
    parts: dict[_Writing, dict[str, list[float]]] = {}
    first: dict[_Writing, ResponseDraft] = {}
    for each in rated:
        key = _writing(each)
        parts.setdefault(key, {}).setdefault(each.rater, []).append(each.answer.score)
        first.setdefault(key, each.answer)
    # Exact sums: equal ratings in another order stay a tie.
    return [
        replace(answer, score=fsum(map(fsum, parts[key].values())) / len(parts[key]))
        for key, answer in first.items()
    ]


def _group(asked: _Asked) -> BuildResult:
    if None in asked.unreadable:
        return Dropped(UNKNOWN)
    first = asked.rated[0]
    left_out = {_writing(each) for each in asked.rated} & asked.unreadable
    answers = scored(each for each in asked.rated if _writing(each) not in left_out)
    return with_changes(group(first.messages, answers, first.origin), *[UNREADABLE] * len(left_out))
