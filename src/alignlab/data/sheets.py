"""Annotation sheets: one response per row, blind, in four formats, with a key to read them back.

A sheet shows no writer and no score. Prompts, and the responses of a prompt (lettered A, B, C),
come in random order. The key (`SHEET.key.jsonl`) maps rows to responses and is not given to
annotators. Exporting again with more prompts appends rows and leaves filled rows unchanged.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import string
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from alignlab.data.read import Faults, read_table
from alignlab.errors import BadInput, bad_record
from alignlab.files import make_folder, write_text
from alignlab.records import from_line, to_line
from alignlab.seeds import derive
from alignlab.text import conversation as as_text
from alignlab.types import Count, Prompt, Response

Form = Literal["numerical", "ranking", "text", "labels"]
COLUMNS: Mapping[Form, str] = {
    "numerical": "rating",
    "ranking": "rank",
    "text": "comment",
    "labels": "label",
}
"""Format -> column to fill in."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a spreadsheet formula; texts that start with one get an apostrophe."""
_CONSONANTS = "bcdfghjklmnpqrstvwxz"


@dataclass(frozen=True)
class SheetSettings:
    """Format and scale of a sheet."""

    form: Form
    """"numerical" (a rating each), "ranking" (1 is the best of a prompt's responses, equal ranks
    are ties), "text" (a comment each) or "labels" (one of a list each)."""
    low: float | None = None
    """Lowest rating; 1 if left out. Numerical sheets alone."""
    high: float | None = None
    """Highest rating; 5 if left out. Numerical sheets alone."""
    labels: tuple[str, ...] = ()
    """Labels to choose from; good and bad if left out. Sheets of labels alone."""
    desirable: tuple[str, ...] = ()
    """Labels of good responses; the first label if left out."""
    seed: int = 0
    """Seed of the order of prompts and responses, and of the row names."""

    def __post_init__(self) -> None:
        idle = {"numerical": (self.labels, self.desirable), "labels": (self.low, self.high)}
        for value in idle.get(self.form, (self.low, self.high, self.labels, self.desirable)):
            if value not in (None, ()):
                raise BadInput(f"a {self.form} sheet: {value!r} has no effect; leave it out")
        for name, bound in self.scale._asdict().items():
            if not math.isfinite(bound):
                raise BadInput(f"setting {name}: expected a finite number, found {bound}")
        if not self.scale.low < self.scale.high:
            raise BadInput(f"setting high: expected above {self.scale.low:g}, found {self.high}")
        if len(set(map(plain_label, self.choices))) < 2 or "" in map(plain_label, self.choices):
            raise BadInput(f"setting labels: expected two different ones, found {self.labels}")
        for label in self.desirable:
            if label not in self.choices:
                raise BadInput(f"setting desirable: expected one of the labels, found {label!r}")

    @property
    def scale(self) -> RatingScale:
        """Bounds of a rating."""
        return RatingScale(
            1.0 if self.low is None else self.low, 5.0 if self.high is None else self.high
        )

    @property
    def choices(self) -> tuple[str, ...]:
        """Labels to choose from."""
        return self.labels or ("good", "bad")

    @property
    def good(self) -> tuple[str, ...]:
        """Labels of good responses."""
        return self.desirable or self.choices[:1]

    @property
    def column(self) -> str:
        """Column to fill in."""
        return COLUMNS[self.form]

    @property
    def expected(self) -> str:
        """Description of valid answers, for error messages."""
        if self.form == "numerical":
            return f"a number from {self.scale.low:g} to {self.scale.high:g}"
        if self.form == "labels":
            return "one of " + ", ".join(self.choices)
        return "1 for the best, equal ranks for ties" if self.form == "ranking" else "words"


class RatingScale(NamedTuple):
    """Bounds of a rating."""

    low: float
    high: float


@dataclass(frozen=True)
class SheetItem:
    """Key entry of one row of a sheet."""

    item: str
    """Random name of the row."""
    letter: str
    """Letter of the response within its prompt."""
    prompt: Prompt
    response: Response


@dataclass(frozen=True)
class Key:
    """Key of a sheet: its settings and the response of every row."""

    path: str
    settings: SheetSettings
    items: tuple[SheetItem, ...]

    @cached_property
    def by_name(self) -> Mapping[str, SheetItem]:
        """Row name -> row."""
        return {item.item: item for item in self.items}

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Prompt id -> number of responses."""
        return Counter(item.prompt.id for item in self.items)


class WrittenSheet(NamedTuple):
    """Result of writing a sheet."""

    key: Key
    added: int
    """Number of new rows."""
    tally: Count


def key_path(sheet: Path) -> Path:
    """Return the path of a sheet's key."""
    return sheet.with_name(f"{sheet.name}.key.jsonl")


def read_key(path: Path) -> Key:
    """Read the key of a sheet, gzipped or not.

    Raises:
        BadInput: the file is missing or not a key.
    """
    if not path.is_file():
        raise BadInput(f"{path}: expected the key of a sheet, found no such file")
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
        head, *lines = text.removesuffix("\n").split("\n")
        items = tuple(from_line(SheetItem, line) for line in lines)
        return Key(str(path), from_line(SheetSettings, head), items)
    except (OSError, EOFError, zlib.error, ValueError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise bad_record(path, None, None, "the key of a sheet", first) from None


def make_items(
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    settings: SheetSettings,
    limit: int = 0,
) -> tuple[list[SheetItem], Count]:
    """Build the rows of a sheet in random order, with counts of responses left out.

    Args:
        prompts: prompts to show.
        responses: responses to show.
        settings: format and seed of the sheet.
        limit: maximum number of prompts; 0 shows all.
    """
    seed = settings.seed
    several: dict[str, list[Response]] = {}
    dropped: Counter[str] = Counter()
    for response in responses:
        if response.text.strip():
            several.setdefault(response.prompt_id, []).append(response)
        else:
            dropped["empty response"] += 1
    items: list[SheetItem] = []
    asked: set[str] = set()
    for prompt in sorted(prompts, key=lambda p: (derive(seed, "sheet", p.id), p.id)):
        shown = several.get(prompt.id, [])
        if settings.form == "ranking" and len(shown) == 1:
            dropped["a prompt's only response, nothing to rank"] += 1
        elif limit and len(asked) >= limit:
            dropped["over the limit"] += len(shown)
        elif shown:
            asked.add(prompt.id)
            shown.sort(key=lambda r: derive(seed, "sheet", r.prompt_id, r.id))
            items += [
                SheetItem(_name(seed, r.id), _letter(place), prompt, r)
                for place, r in enumerate(shown)
            ]
    return items, Count("sheet", "responses", len(items), {w: n for w, n in dropped.items() if n})


def write_sheet(
    path: Path,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    settings: SheetSettings,
    *,
    limit: int = 0,
) -> WrittenSheet:
    """Write a sheet (.csv or .jsonl) and its key, or append rows to an existing sheet.

    Args:
        path: file of the sheet.
        prompts: prompts to show.
        responses: responses to show.
        settings: format of the sheet.
        limit: maximum number of prompts, the first in random order; 0 shows all.

    Raises:
        BadInput: the file type is unknown, there are no responses, or the existing file is not a
            sheet of these settings and responses.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise BadInput(f"{path}: expected a file name ending in .csv or .jsonl")
    items, count = make_items(prompts, responses, settings, limit)
    if not items:
        why = ", ".join(f"{reason} {n}" for reason, n in count.dropped.items()) or "no responses"
        raise BadInput(f"{path}: expected responses to show, found none ({why})")
    known = _known(path, settings)
    key = Key(str(key_path(path)), settings, (*known, *_only_new(path, known, items)))
    exists = path.exists()  # a key may be alone: its sheet was renamed when it was filled in
    shown = {row.text("item") for row in read_table(str(path), Faults()).rows} if exists else set()
    lacking = [item for item in key.items if item.item not in shown]
    make_folder(path.parent)
    # The key first: rows without a key could never be read back.
    write_text(key_path(path), "".join(map(to_line, (settings, *key.items))))
    if lacking:
        sheet = path.read_text("utf-8-sig") if exists else ""
        write = _as_csv if path.suffix == ".csv" else _as_jsonl
        write_text(path, write(sheet, lacking, settings))
    return WrittenSheet(key, len(lacking), count)


def plain_label(label: str) -> str:
    """Normalise case and surrounding space of a label."""
    return label.strip().casefold()


def _known(path: Path, settings: SheetSettings) -> tuple[SheetItem, ...]:
    """Read the rows of an existing key; empty for a new sheet.

    Raises:
        BadInput: the sheet has no key, or a key of other settings.
    """
    if not key_path(path).exists():
        if path.exists():
            raise BadInput(f"{path}: expected a new file or a sheet with its key, found neither")
        return ()
    key = read_key(key_path(path))
    if key.settings != settings:
        raise BadInput(f"{key.path}: this sheet was made with {key.settings}, found {settings}")
    return key.items


def _only_new(
    path: Path, known: Sequence[SheetItem], items: Sequence[SheetItem]
) -> list[SheetItem]:
    names = {item.item for item in known}
    asked = {item.prompt.id for item in known}
    new = [item for item in items if item.item not in names]
    for item in new:
        if item.prompt.id in asked:
            raise BadInput(
                f"{path}: expected the same responses as when the sheet was made, found another "
                f"to {as_text(item.prompt)[:60]!r}; use another file"
            )
    return new


def _as_csv(sheet: str, items: Sequence[SheetItem], settings: SheetSettings) -> str:
    """Append rows to a CSV sheet; its byte order mark marks it as UTF-8 for spreadsheets."""
    lines = io.StringIO()
    # All quoted: readers end a line at a bare carriage return too, which the writer does not quote.
    writer = csv.writer(lines, lineterminator="\n", quoting=csv.QUOTE_ALL)
    header = ["item", "prompt", "letter", "response", settings.column, "annotator"]
    if sheet:
        # An annotator's program may have reordered the columns.
        header = next(csv.reader(io.StringIO(sheet)))
    else:
        writer.writerow(header)
    for item in items:
        row = {k: _harmless(v) for k, v in _row(item).items()}
        writer.writerow([row.get(column, "") for column in header])
    gap = "" if not sheet or sheet.endswith("\n") else "\n"
    return "\ufeff" + sheet + gap + lines.getvalue()


def _as_jsonl(sheet: str, items: Sequence[SheetItem], settings: SheetSettings) -> str:
    blank = {settings.column: None, "annotator": None}
    rows = (json.dumps(_row(item) | blank, ensure_ascii=False) + "\n" for item in items)
    gap = "" if not sheet or sheet.endswith("\n") else "\n"
    return sheet + gap + "".join(rows)


def _row(item: SheetItem) -> dict[str, str]:
    return {
        "item": item.item,
        "prompt": as_text(item.prompt),
        "letter": item.letter,
        "response": item.response.text,
    }


def _harmless(text: str) -> str:
    """Escape a text that a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _name(seed: int, response_id: str) -> str:
    """Draw a row name of twelve consonants, which is neither a word nor a number."""
    drawn = derive(seed, "item", response_id)
    letters = []
    for _ in range(12):
        drawn, place = divmod(drawn, len(_CONSONANTS))
        letters.append(_CONSONANTS[place])
    return "".join(letters)


def _letter(place: int) -> str:
    """Format an index as A to Z, then AA, AB, ..."""
    letters = string.ascii_uppercase
    return letters[place] if place < 26 else _letter(place // 26 - 1) + letters[place % 26]
