"""Typed access to the fields of one record, with errors by file, line and field."""

from __future__ import annotations

import ast
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from alignlab.errors import BadInput, bad_record


def is_text(value: Any) -> bool:
    """Return true for text that can be encoded as UTF-8 (JSON may hold lone surrogates)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def listed(names: Iterable[Any]) -> str:
    """Join field names on one line."""
    return ", ".join(" ".join(str(name).split()) for name in names)


class Unread(NamedTuple):
    """Field of a record with a value that was not read."""

    within: str
    """Path of the enclosing object, such as `messages[1].`; empty at the top level."""
    name: str
    value: Any
    is_turn: bool
    """True if the enclosing object was read as a turn of a conversation."""


@dataclass(frozen=True)
class Reading:
    """Names of the fields of one record that were read, nested objects included."""

    columns: frozenset[str] = frozenset()
    """Union of the field names of all records of the table."""
    ignored: frozenset[str] = frozenset()
    """Fields treated as missing."""
    memory: dict[Any, Any] = field(default_factory=dict)
    """State shared by all records of the table, for layouts that compare records."""
    objects: dict[str, tuple[Mapping[str, Any], set[str]]] = field(default_factory=dict)
    """Path of an object -> its fields, and the names that were read."""

    def read_in(self, row: Row) -> set[str]:
        """Return the mutable set of names read in one object of the record."""
        return self.objects.setdefault(row.within, (row.values, set()))[1]

    def unread(self) -> Iterator[Unread]:
        """List the fields with a value that were not read."""
        for within, (values, names) in self.objects.items():
            is_turn = not names.isdisjoint(("role", "from"))
            for name, value in values.items():
                unread = name not in names or name in self.ignored
                if unread and not is_nothing(value):
                    yield Unread(within, name, value, is_turn)


def is_nothing(value: Any) -> bool:
    """Return true for null, blank text, and lists or objects of nothing else."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}")
    if isinstance(value, list | dict):  # Parquet fills structures that are not there with nulls
        return all(map(is_nothing, value.values() if isinstance(value, dict) else value))
    return value is None


@dataclass(frozen=True)
class Row:
    """Fields of one record, or of an object nested in one."""

    file: str
    line: int
    """Line where the record starts, from 1; row number in Parquet and on the hub."""
    values: Mapping[str, Any]
    held_out: bool = False
    """True for a record of a file or split named as test data."""
    within: str = ""
    """Path of the nested object in its record, such as `responses[1].`."""
    reading: Reading | None = field(default=None, compare=False, repr=False)
    """Log of the fields that were read; None without logging."""

    def get(self, field: str) -> Any:
        """Read a raw value; None for a missing field."""
        if self.reading is not None:
            self.reading.read_in(self).add(field)
        return self.peek(field)

    def peek(self, field: str) -> Any:
        """Return a value without marking the field as read."""
        ignored = self.reading is not None and field in self.reading.ignored
        return None if ignored else self.values.get(field)

    def bad(self, field: str, expected: str) -> BadInput:
        """Build the error of a bad field of this record."""
        if self.values.get(field) is not None:
            found = repr(self.values[field])
        elif field in self.values:
            found = "null"
        else:
            found = f"no such field (fields: {listed(self.values) or 'none'})"
        return bad_record(self.file, self.line, self.within + field, expected, found)

    def has(self, field: str) -> bool:
        """Return true if the field is present and not null."""
        return self.get(field) is not None

    def text(self, field: str) -> str:
        """Read a text field.

        Raises:
            BadInput: the field is missing or not text.
        """
        value = self.get(field)
        if not is_text(value):
            raise self.bad(field, "text")
        return str(value)

    def optional_text(self, field: str) -> str | None:
        """Read a text field that may be missing or null."""
        return self.text(field) if self.has(field) else None

    def number(self, field: str) -> float:
        """Read a finite number, also from text (CSV)."""
        value = self.get(field)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.bad(field, "a finite number")
        return number

    def whole(self, field: str, allowed: range) -> int:
        """Read an integer within the allowed range."""
        value = self.get(field)
        expected = f"an integer from {allowed[0]} to {allowed[-1]}"
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.bad(field, expected)
        number = self.number(field)
        if number != int(number) or int(number) not in allowed:
            raise self.bad(field, expected)
        return int(number)

    def truth(self, field: str) -> bool:
        """Read true or false, also from 1/0 or from text (CSV)."""
        value = self.get(field)
        plain = value.strip().lower() if isinstance(value, str) else value
        if plain in (True, "true", "1", "1.0"):
            return True
        if plain in (False, "false", "0", "0.0"):
            return False
        raise self.bad(field, "true or false")

    def items(self, field: str) -> list[Any]:
        """Read a list, also from text in JSON or Python syntax (CSV)."""
        value = self._structure(field)
        if not isinstance(value, list):
            raise self.bad(field, "a list")
        return value

    def rows(self, field: str) -> list[Row]:
        """Read a list of objects."""
        return [
            self._nested(f"{field}[{position}]", value)
            for position, value in enumerate(self.items(field))
        ]

    def row(self, field: str) -> Row:
        """Read one nested object."""
        if not self.has(field):
            raise self.bad(field, "an object")
        return self._nested(field, self._structure(field))

    def texts(self, field: str) -> list[str]:
        """Read a list of texts."""
        values = self.items(field)
        if not all(map(is_text, values)):
            raise self.bad(field, "a list of texts")
        return values

    def _nested(self, place: str, value: Any) -> Row:
        if not isinstance(value, Mapping):
            raise bad_record(self.file, self.line, self.within + place, "an object", repr(value))
        nested = replace(self, values=value, within=f"{self.within}{place}.")
        if self.reading is not None:
            self.reading.read_in(nested)
        return nested

    def _structure(self, field: str) -> Any:
        value = self.get(field)
        return structure_in(value) if isinstance(value, str) else value


def structure_in(text: str) -> Any:
    """Parse a list or an object in JSON or Python syntax; other text is returned unchanged."""
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # of backslashes in the text
            value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, list | dict) else text
