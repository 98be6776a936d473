"""Filled sheets back to feedback: one record per annotator and response (or ranked prompt).

Rows are matched by their `item`; the order of rows and columns plays no part, nor does a shown text
that an annotator's program changed. A row that shows another row's prompt and response is refused:
sorting some of a sheet's columns tears answers from what they answer. A blank answer is an answer
not yet given. The annotator is the row's `annotator`, or the file's name without its ending.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from alignlab.data.read import Faults, read_table
from alignlab.data.rows import Row
from alignlab.data.sheets import Key, SheetItem, SheetSettings, as_text, plain_label
from alignlab.errors import BadInput, bad_record
from alignlab.types import Critique, Feedback, Ranking, Score, Verdict

REPEATED = "repeated answer"
BAD = "bad row"


@dataclass(frozen=True)
class Annotator:
    """What one annotator did."""

    name: str
    answered: int
    """Rows of the sheet with an answer that counts."""
    unanswered: int


@dataclass(frozen=True)
class SheetAnswers:
    """All that annotators said."""

    feedback: tuple[Feedback, ...]
    """By annotator, in the order of the key; the source is "human:NAME"."""
    annotators: tuple[Annotator, ...]
    repeated: int
    """Answers given twice in the same words; the second is left out."""
    bad: int
    """Rows that could not be read, where these are not an error."""
    files: dict[str, str]
    """Sheet -> SHA-256."""


class _Said(NamedTuple):
    """One answer and where it was read."""

    row: Row
    value: float | str


def read_answers(
    sheets: Sequence[str | Path], key: Key, faults: Faults | None = None
) -> SheetAnswers:
    """Read filled sheets against their key.

    Args:
        faults: collects bad rows; by default the first one ends the reading.

    Raises:
        BadInput: no such file, an unknown item, a row that shows another item's response, an answer
            off the scale, two answers of one annotator to one item that differ, or a prompt that
            is ranked in part.
    """
    faults = faults or Faults()
    shown = {_letters(as_text(i.prompt), i.response.text): i.item for i in key.items}
    said: dict[str, dict[str, _Said]] = {}
    files: dict[str, str] = {}
    repeated = 0
    for sheet in sheets:
        table = read_table(str(sheet), faults)
        files.update(table.files)
        for row in table.rows:
            try:
                _refuse_torn(row, key, shown)
                repeated += _take(row, key, said)
            except BadInput as error:
                faults.add(error)
    feedback: list[Feedback] = []
    annotators = []
    for name in sorted(said):
        given = said[name]
        if key.settings.form == "ranking":
            found, counted = _rankings(name, given, key, faults)
        else:
            found, counted = _single(name, given, key), len(given)
        feedback += found
        annotators.append(Annotator(name, counted, len(key.items) - counted))
    return SheetAnswers(tuple(feedback), tuple(annotators), repeated, len(faults.found), files)


def _refuse_torn(row: Row, key: Key, shown: Mapping[tuple[str, str], str]) -> None:
    """Refuse a row whose item and shown texts are of different rows of the sheet.

    Raises:
        BadInput: the texts are another item's.
    """
    item = key.by_name.get(str(row.values.get("item")))
    texts = _letters(str(row.values.get("prompt")), str(row.values.get("response")))
    other = shown.get(texts)
    if item and other and texts != _letters(as_text(item.prompt), item.response.text):
        raise row.bad("item", f"{other}, whose prompt and response this row shows")


def _letters(prompt: str, response: str) -> tuple[str, str]:
    """Return the letters and digits of two texts: these survive a spreadsheet."""
    first, second = ("".join(filter(str.isalnum, t.casefold())) for t in (prompt, response))
    return first, second


def _take(row: Row, key: Key, said: dict[str, dict[str, _Said]]) -> bool:
    """Take note of a row's answer; whether it was only repeated."""
    name, column = row.text("item"), key.settings.column
    if name not in key.by_name:
        raise row.bad("item", f"a row of {Path(key.path).name}")
    value = answer_in(row, key)
    if value is None:
        return False
    written = row.optional_text("annotator") or ""
    annotator = written.strip() or Path(row.file).name.removesuffix(".gz").rpartition(".")[0]
    before = said.setdefault(annotator, {}).setdefault(name, _Said(row, value))
    if before.row is row:
        return False
    if before.value != value:
        where = f"{before.row.file}, line {before.row.line}"
        raise bad_record(
            row.file,
            row.line,
            column,
            f"{annotator}'s answer to {name} once ({before.value!r} in {where})",
            repr(value),
        )
    return True


def answer_in(row: Row, key: Key) -> float | str | None:
    """The answer in one of the key's rows, as its format has it; None where it is blank.

    Raises:
        BadInput: the answer is off the scale, or no such thing, or has no column.
    """
    asked: SheetSettings = key.settings
    if asked.column not in row.values:
        raise row.bad(asked.column, asked.expected)
    given = row.values[asked.column]
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    if asked.form == "text":
        return row.text(asked.column).strip()
    if asked.form == "labels":
        found = plain_label(row.text(asked.column))
        label = next((each for each in asked.choices if plain_label(each) == found), None)
        if label is None:
            raise row.bad(asked.column, asked.expected)
        return label
    if asked.form == "ranking":
        several = key.sizes[key.by_name[row.text("item")].prompt.id]
        return float(row.whole(asked.column, range(1, several + 1)))
    number = row.number(asked.column)
    if not asked.scale.low <= number <= asked.scale.high:
        raise row.bad(asked.column, asked.expected)
    return number


def _single(name: str, given: dict[str, _Said], key: Key) -> list[Feedback]:
    """Ratings, labels or comments, a record each."""
    return [
        Feedback(
            item.prompt.id,
            (item.response.id,),
            f"human:{name}",
            _verdict(given[item.item].value, key.settings),
            raw=(str(given[item.item].value),),
        )
        for item in key.items
        if item.item in given
    ]


def _verdict(value: float | str, asked: SheetSettings) -> Verdict:
    """A rating as its score, words as a critique, a label as 1 (desirable) or 0."""
    if asked.form == "text":
        return Critique(str(value))
    if asked.form == "labels":
        return Score(float(value in asked.good))
    return Score(float(value))


def _rankings(
    name: str, given: dict[str, _Said], key: Key, faults: Faults
) -> tuple[list[Feedback], int]:
    """One ranking per prompt that is ranked whole, and how many rows these are."""
    prompts: dict[str, list[SheetItem]] = {}
    for item in key.items:
        prompts.setdefault(item.prompt.id, []).append(item)
    found: list[Feedback] = []
    counted = 0
    for prompt_id, items in prompts.items():
        ranked = [item for item in items if item.item in given]
        if not ranked:
            continue
        if len(ranked) < len(items):
            row = given[ranked[0].item].row
            lacking = next(item for item in items if item.item not in given)
            expected = f"a rank of every response of the prompt by {name}"
            found_instead = f"none of response {lacking.letter} ({lacking.item})"
            faults.add(bad_record(row.file, row.line, key.settings.column, expected, found_instead))
            continue
        values = [given[item.item].value for item in items]
        distinct = sorted(set(map(float, values)))
        ranks = tuple(distinct.index(float(value)) for value in values)
        ids = tuple(item.response.id for item in items)
        raw = tuple(f"{value:g}" for value in map(float, values))
        found.append(Feedback(prompt_id, ids, f"human:{name}", Ranking(ranks), raw=raw))
        counted += len(items)
    return found, counted
