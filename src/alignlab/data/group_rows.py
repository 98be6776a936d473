"""Layouts whose rows each rate one answer: rows of a prompt are gathered into one group.

A rater's ratings of an answer are added up (errors that were found in it, say); the answer's score
is the mean over its raters. An answer of which a rating cannot be read is left out: a score of the
others alone would lack the errors that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from typing import Any, NamedTuple

from alignlab.data.build_records import BuildResult, Dropped, Kept, Origin, ResponseDraft, group
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
    """What one row says."""

    messages: tuple[Message, ...]
    answer: ResponseDraft
    """Its score is this row's part of the rating."""
    origin: Origin
    rater: str = ""


RatedOf = Callable[[Row, Any], Rated]


class _Writing(NamedTuple):
    """An answer, whoever rated it."""

    model: str
    text: str


@dataclass
class _Asked:
    """All that was said of one prompt's answers on one side, training or held out."""

    row: Row
    """The first of its rows."""
    rated: list[Rated] = field(default_factory=list)
    unreadable: set[_Writing | None] = field(default_factory=set)
    """Answers of which a rating could not be read; None where it is not known which."""


def grouped_format(
    name: str, *, columns: Iterable[Iterable[str]], options: type[Options] = Options
) -> Callable[[RatedOf], Format]:
    """Register a layout whose rows are gathered by prompt; the function reads one row."""

    def wrap(rated: RatedOf) -> Format:
        def corpus(self: Format, table: RawTable, chosen: Options, faults: Faults) -> Corpus:
            unread = UnreadFields(table.rows, chosen.ignore)
            table = replace(table, rows=tuple(map(unread.watched, table.rows)))
            asked = group_rows(table, rated, chosen, faults)
            for row in table.rows:
                unread.account(row, refuse=False)
            table = replace(table, counts=unread.counts)
            held_out = {messages for messages, is_test in asked if is_test}
            made = [
                # Also where nothing usable is on the held-out side, which sifting would not see.
                Dropped("prompt is held out")
                if messages in held_out and not is_test
                else placed(_group(each), each.row, chosen)
                for (messages, is_test), each in asked.items()
                if each.rated
            ]
            return corpus_of(self.name, made, table, chosen, faults)

        sets = tuple(frozenset(c) for c in columns)
        doc = (rated.__doc__ or "").strip().splitlines()[0]
        return register("data", name)(Format(name, doc, sets, options, corpus))

    return wrap


def group_rows(
    table: RawTable, rated: RatedOf, options: Options, faults: Faults
) -> dict[tuple[tuple[Message, ...], bool], _Asked]:
    """The rows of each prompt and side (whether held out), in the order of the file."""
    asked: dict[tuple[tuple[Message, ...], bool], _Asked] = {}
    good: list[Row] = []
    bad: list[Row] = []
    for row in table.rows:
        try:
            found = rated(row, options)
        except BadInput as error:
            faults.add(error)
            bad.append(row)
            continue
        asked.setdefault((found.messages, row.held_out), _Asked(row)).rated.append(found)
        good.append(row)
    samples = _samples(good) if bad else {}
    for row in bad:
        about = _mended(row, rated, options, samples)
        # Nothing is known where no reading is possible, or the prompt is what cannot be read.
        if about and len({each.messages for each in about}) == 1:
            place = asked.setdefault((about[0].messages, row.held_out), _Asked(row))
            writings = {_writing(each) for each in about}
            place.unreadable.add(writings.pop() if len(writings) == 1 else None)
    return asked


def _samples(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """Two different values of each field, or its only one."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.values.items():
            values = found.setdefault(name, [])
            if len(values) < 2 and value not in values:
                values.append(value)
    return found


def _mended(
    row: Row, rated: RatedOf, options: Options, samples: Mapping[str, Sequence[Any]]
) -> list[Rated]:
    """Readings of a bad row with the field at fault taken from good rows; what they share holds.

    None where more than one field is at fault.
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
    """Each writer's answers with their mean over raters, in the order they came."""
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
    made = group(first.messages, answers, first.origin)
    if isinstance(made, Kept):
        return replace(made, changed=(*made.changed, *[UNREADABLE] * len(left_out)))
    return made
