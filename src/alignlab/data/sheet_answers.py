"""Read filled sheets to feedback: one record per annotator and response (or ranked prompt).

Rows are matched by `item`, in any order of rows and columns and with any changes to the shown
texts. A row with the prompt and response of another row is refused, as after sorting some of the
columns alone. Blank answers are skipped. The annotator is the row's `annotator`, or the file's name
without its ending.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from alignlab.data.read import Faults, read_table
from alignlab.data.rows import Row
from alignlab.data.sheets import Key, SheetItem, SheetSettings, plain_label
from alignlab.errors import BadInput, bad_record
from alignlab.text import conversation as as_text
from alignlab.types import Critique, Feedback, Ranking, Score, Verdict

REPEATED = "repeated answer"


@dataclass(frozen=True)
class Annotator:
    """Numbers of answers of one annotator."""

    name: str
    answered: int
    """Rows with a valid answer."""
    unanswered: int


@dataclass(frozen=True)
class SheetAnswers:
    """Feedback of all annotators."""

    feedback: tuple[Feedback, ...]
    """Feedback by annotator, in the order of the key; the source is "human:NAME"."""
    annotators: tuple[Annotator, ...]
    repeated: int
    """Number of identical repeated answers, left out."""
    bad: int
    """Number of unreadable rows, where they are collected."""
    files: dict[str, str]
    """Sheet -> SHA-256."""


class _Answer(NamedTuple):
    """One answer with its row."""

    row: Row
    value: float | str


def read_answers(
    sheets: Sequence[str | Path], key: Key, faults: Faults | None = None
) -> SheetAnswers:
    """Read filled sheets against their key.

    Args:
        sheets: the filled files.
        key: key of the sheet.
        faults: collector of bad rows; by default the first one is raised.

    Raises:
        BadInput: a file is missing, an item is unknown, a row shows the response of another item,
            an answer is off the scale, an annotator answers an item in two ways, or a prompt is
            partly ranked.
    """
    faults = faults or Faults()
    shown = {_letters(as_text(i.prompt), i.response.text): i.item for i in key.items}
    answers: dict[str, dict[str, _Answer]] = {}
    files: dict[str, str] = {}
    repeated = 0
    for sheet in sheets:
        table = read_table(str(sheet), faults)
        files.update(table.files)
        for row in table.rows:
            try:
                _refuse_torn(row, key, shown)
                repeated += _take(row, key, answers)
            except BadInput as error:
                faults.add(error)
    feedback: list[Feedback] = []
    annotators = []
    for name in sorted(answers):
        own = answers[name]
        if key.settings.form == "ranking":
            records, counted = _rankings(name, own, key, faults)
        else:
            records, counted = _single(name, own, key), len(own)
        feedback += records
        annotators.append(Annotator(name, counted, len(key.items) - counted))
    return SheetAnswers(tuple(feedback), tuple(annotators), repeated, len(faults.found), files)


def _refuse_torn(row: Row, key: Key, shown: Mapping[tuple[str, str], str]) -> None:
    """Refuse a row whose item and shown texts belong to different rows of the sheet.

    Raises:
        BadInput: the texts belong to another item.
    """
    item = key.by_name.get(str(row.values.get("item")))
    texts = _letters(str(row.values.get("prompt")), str(row.values.get("response")))
    other = shown.get(texts)
    if item and other and texts != _letters(as_text(item.prompt), item.response.text):
        raise row.bad("item", f"{other}, whose prompt and response this row shows")


def _letters(prompt: str, response: str) -> tuple[str, str]:
    """Return the letters and digits of two texts, which spreadsheets leave unchanged."""
    first, second = ("".join(filter(str.isalnum, t.casefold())) for t in (prompt, response))
    return first, second


def _take(row: Row, key: Key, answers: dict[str, dict[str, _Answer]]) -> bool:
    """Add a row's answer; return true for an identical repetition.

    Raises:
        BadInput: the item is unknown, or the annotator's earlier answer differs.
    """
    name, column = row.text("item"), key.settings.column
    if name not in key.by_name:
        raise row.bad("item", f"a row of {Path(key.path).name}")
    value = answer_in(row, key)
    if value is None:
        return False
    written = row.optional_text("annotator") or ""
    annotator = written.strip() or Path(row.file).name.removesuffix(".gz").rpartition(".")[0]
    before = answers.setdefault(annotator, {}).setdefault(name, _Answer(row, value))
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
    """Read the answer of a row in the sheet's format; None if blank.

    Raises:
        BadInput: the column is missing, or the answer is invalid or off the scale.
    """
    asked: SheetSettings = key.settings
    if asked.column not in row.values:
        raise row.bad(asked.column, asked.expected)
    value = row.values[asked.column]
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if asked.form == "text":
        return row.text(asked.column).strip()
    if asked.form == "labels":
        plain = plain_label(row.text(asked.column))
        label = next((each for each in asked.choices if plain_label(each) == plain), None)
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


def _single(name: str, answers: dict[str, _Answer], key: Key) -> list[Feedback]:
    """Build one record per rating, label or comment."""
    return [
        Feedback(
            item.prompt.id,
            (item.response.id,),
            f"human:{name}",
            _verdict(answers[item.item].value, key.settings),
            raw=(str(answers[item.item].value),),
        )
        for item in key.items
        if item.item in answers
    ]


def _verdict(value: float | str, asked: SheetSettings) -> Verdict:
    """Convert a rating to a score, a comment to a critique, a label to 1 (desirable) or 0."""
    if asked.form == "text":
        return Critique(str(value))
    if asked.form == "labels":
        return Score(float(value in asked.good))
    return Score(float(value))


def _rankings(
    name: str, answers: dict[str, _Answer], key: Key, faults: Faults
) -> tuple[list[Feedback], int]:
    """Build one ranking per fully ranked prompt; return them with the number of their rows."""
    prompts: dict[str, list[SheetItem]] = {}
    for item in key.items:
        prompts.setdefault(item.prompt.id, []).append(item)
    rankings: list[Feedback] = []
    counted = 0
    for prompt_id, items in prompts.items():
        ranked = [item for item in items if item.item in answers]
        if not ranked:
            continue
        if len(ranked) < len(items):
            row = answers[ranked[0].item].row
            lacking = next(item for item in items if item.item not in answers)
            expected = f"a rank of every response of the prompt by {name}"
            found = f"none of response {lacking.letter} ({lacking.item})"
            faults.add(bad_record(row.file, row.line, key.settings.column, expected, found))
            continue
        values = [float(answers[item.item].value) for item in items]
        distinct = sorted(set(values))
        ranks = tuple(map(distinct.index, values))
        ids = tuple(item.response.id for item in items)
        raw = tuple(f"{value:g}" for value in values)
        rankings.append(Feedback(prompt_id, ids, f"human:{name}", Ranking(ranks), raw=raw))
        counted += len(items)
    return rankings, counted
