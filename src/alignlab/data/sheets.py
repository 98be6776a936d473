"""Sheets for annotators: one response a row, blind, in four formats, with a key to read them back.

A sheet shows no writer and no score. Its prompts come in a drawn order, and so do the responses of
a prompt, lettered A, B, C. The key (`SHEET.key.jsonl`) stays with whoever reads the sheets back: it
says which response a row is. Made again from the same data with more prompts, a sheet grows at its
end and what was filled in stays.
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
from alignlab.files import write_text
from alignlab.records import from_line, to_line
from alignlab.seeds import derive
from alignlab.types import Count, Prompt, Response

Form = Literal["numerical", "ranking", "text", "labels"]
COLUMNS: Mapping[Form, str] = {
    "numerical": "rating",
    "ranking": "rank",
    "text": "comment",
    "labels": "label",
}
"""Format -> the column that annotators fill in."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What starts a formula in a spreadsheet; a text that does is shown behind an apostrophe."""
_CONSONANTS = "bcdfghjklmnpqrstvwxz"


@dataclass(frozen=True)
class SheetSettings:
    """What annotators are asked."""

    form: Form
    """"numerical" (a number each), "ranking" (1 is the best of a prompt's responses, equal ranks
    are ties), "text" (words on each) or "labels" (one of a list)."""
    low: float | None = None
    """Least rating; 1 if left out. Numerical sheets alone."""
    high: float | None = None
    """Greatest rating; 5 if left out. Numerical sheets alone."""
    labels: tuple[str, ...] = ()
    """Labels to choose from; good and bad if left out. Sheets of labels alone."""
    desirable: tuple[str, ...] = ()
    """Those of the labels that say a response is good; the first if left out."""
    seed: int = 0
    """Decides the order of prompts and responses, and the names of the rows."""

    def __post_init__(self) -> None:
        idle = {"numerical": (self.labels, self.desirable), "labels": (self.low, self.high)}
        for given in idle.get(self.form, (self.low, self.high, self.labels, self.desirable)):
            if given not in (None, ()):
                raise BadInput(f"a {self.form} sheet: {given!r} has no effect; leave it out")
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
        """The bounds of a rating."""
        return RatingScale(
            1.0 if self.low is None else self.low, 5.0 if self.high is None else self.high
        )

    @property
    def choices(self) -> tuple[str, ...]:
        """The labels to choose from."""
        return self.labels or ("good", "bad")

    @property
    def good(self) -> tuple[str, ...]:
        """The labels of good responses."""
        return self.desirable or self.choices[:1]

    @property
    def column(self) -> str:
        """The column to fill in."""
        return COLUMNS[self.form]

    @property
    def expected(self) -> str:
        """What belongs into the column, in words."""
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
    """One row of a sheet, as the key knows it."""

    item: str
    """The row's name, which says nothing of what it is."""
    letter: str
    """How the response is called among those of its prompt."""
    prompt: Prompt
    response: Response


@dataclass(frozen=True)
class Key:
    """What a sheet's rows are."""

    path: str
    settings: SheetSettings
    items: tuple[SheetItem, ...]

    @cached_property
    def by_name(self) -> Mapping[str, SheetItem]:
        """The rows by their names."""
        return {item.item: item for item in self.items}

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """How many responses each prompt has, by its id."""
        return Counter(item.prompt.id for item in self.items)


class Exported(NamedTuple):
    """A sheet that was written."""

    key: Key
    added: int
    """Rows that the sheet did not have before."""
    tally: Count


def key_path(sheet: Path) -> Path:
    """Where the key of a sheet lies."""
    return sheet.with_name(f"{sheet.name}.key.jsonl")


def read_key(path: Path) -> Key:
    """Read the key of a sheet, gzipped or not.

    Raises:
        BadInput: no such file, or not a key.
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
    """The rows of a sheet in their drawn order, and how many responses are not shown."""
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
) -> Exported:
    """Write a sheet (.csv or .jsonl) and its key, or add rows to the one that is there.

    Args:
        limit: most prompts shown, the first of the drawn order; 0 shows all.

    Raises:
        BadInput: another kind of file, no responses, a file that is no such sheet, or a sheet that
            was made with other settings or of other responses to one of its prompts.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise BadInput(f"{path}: expected a file name ending in .csv or .jsonl")
    items, count = make_items(prompts, responses, settings, limit)
    if not items:
        why = ", ".join(f"{reason} {n}" for reason, n in count.dropped.items()) or "no responses"
        raise BadInput(f"{path}: expected responses to show, found none ({why})")
    known = _known(path, settings)
    key = Key(str(key_path(path)), settings, (*known, *_only_new(path, known, items)))
    there = path.exists()  # a key may lie alone: its sheet was renamed when it was filled in
    shown = {row.text("item") for row in read_table(str(path), Faults()).rows} if there else set()
    lacking = [item for item in key.items if item.item not in shown]
    path.parent.mkdir(parents=True, exist_ok=True)
    # The key first: rows without a key could never be read back.
    write_text(key_path(path), "".join(map(to_line, (settings, *key.items))))
    if lacking:
        sheet = path.read_text("utf-8-sig") if there else ""
        write = _as_csv if path.suffix == ".csv" else _as_jsonl
        write_text(path, write(sheet, lacking, settings))
    return Exported(key, len(lacking), count)


def as_text(prompt: Prompt) -> str:
    """A prompt as annotators see it: its text alone, or the conversation with its speakers."""
    if len(prompt.messages) == 1:
        return prompt.text
    return "\n\n".join(f"{m.role.capitalize()}: {m.content}" for m in prompt.messages)


def plain_label(label: str) -> str:
    """A label without case and space around it."""
    return label.strip().casefold()


def _known(path: Path, settings: SheetSettings) -> tuple[SheetItem, ...]:
    """The rows that a sheet's key has already; copies of the sheet may be read back by it."""
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
    held = {item.item for item in known}
    asked = {item.prompt.id for item in known}
    new = [item for item in items if item.item not in held]
    for item in new:
        if item.prompt.id in asked:
            raise BadInput(
                f"{path}: expected the same responses as when the sheet was made, found another "
                f"to {as_text(item.prompt)[:60]!r}; use another file"
            )
    return new


def _as_csv(sheet: str, items: Sequence[SheetItem], settings: SheetSettings) -> str:
    """The sheet with rows added; the byte order mark lets spreadsheets see that it is UTF-8."""
    lines = io.StringIO()
    # All quoted: readers end a line at a bare carriage return too, which the writer leaves alone.
    writer = csv.writer(lines, lineterminator="\n", quoting=csv.QUOTE_ALL)
    header = ["item", "prompt", "letter", "response", settings.column, "annotator"]
    if sheet:
        # An annotator's program may have ordered the columns anew.
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
    """A response must not run as a formula on the annotator's machine."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _name(seed: int, response_id: str) -> str:
    """Twelve consonants: no word, and nothing that a spreadsheet takes for a number."""
    drawn = derive(seed, "item", response_id)
    letters = []
    for _ in range(12):
        drawn, place = divmod(drawn, len(_CONSONANTS))
        letters.append(_CONSONANTS[place])
    return "".join(letters)


def _letter(place: int) -> str:
    """A to Z, then AA, AB, ..."""
    letters = string.ascii_uppercase
    return letters[place] if place < 26 else _letter(place // 26 - 1) + letters[place % 26]
