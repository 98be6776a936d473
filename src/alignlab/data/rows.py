"""One record as it was read, which knows its place and complains by file, line and field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alignlab.errors import BadInput, bad_record


def is_text(value: Any) -> bool:
    """Say whether a value is text that can be written as UTF-8 (JSON may hold half characters)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def listed(names: Iterable[Any]) -> str:
    """Names of fields on one line."""
    return ", ".join(" ".join(str(name).split()) for name in names)


@dataclass(frozen=True)
class Row:
    """The fields of one record, or of an object nested in one."""

    file: str
    line: int
    """Line of the file where the record starts, from 1; row number in Parquet and on the hub."""
    values: Mapping[str, Any]
    held_out: bool = False
    """From a file of a folder that is named as test data."""
    within: str = ""
    """Path of the nested object in its record, such as `responses[1].`."""

    def bad(self, field: str, expected: str) -> BadInput:
        """Build the complaint about a field of this record."""
        if self.has(field):
            found = repr(self.values[field])
        elif field in self.values:
            found = "null"
        else:
            found = f"no such field (fields: {listed(self.values) or 'none'})"
        return bad_record(self.file, self.line, self.within + field, expected, found)

    def has(self, field: str) -> bool:
        """Say whether the field is there and not null."""
        return self.values.get(field) is not None

    def text(self, field: str) -> str:
        """Read a text field; raises BadInput when it is missing or not text."""
        value = self.values.get(field)
        if not is_text(value):
            raise self.bad(field, "text")
        return str(value)

    def optional_text(self, field: str) -> str | None:
        """Read a text field that may be missing or null."""
        return self.text(field) if self.has(field) else None

    def number(self, field: str) -> float:
        """Read a finite number, also one written as text (CSV)."""
        value = self.values.get(field)
        try:
            number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.bad(field, "a finite number")
        return number

    def whole(self, field: str, allowed: range) -> int:
        """Read an integer of the allowed range."""
        value = self.values.get(field)
        expected = f"an integer from {allowed[0]} to {allowed[-1]}"
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.bad(field, expected)
        number = self.number(field)
        if number != int(number) or int(number) not in allowed:
            raise self.bad(field, expected)
        return int(number)

    def truth(self, field: str) -> bool:
        """Read true or false, also written 1/0 or as text (CSV)."""
        value = self.values.get(field)
        plain = value.strip().lower() if isinstance(value, str) else value
        if plain in (True, "true", "1"):
            return True
        if plain in (False, "false", "0"):
            return False
        raise self.bad(field, "true or false")

    def items(self, field: str) -> list[Any]:
        """Read a list, also one written as JSON text (CSV)."""
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
        return Row(self.file, self.line, value, self.held_out, f"{self.within}{place}.")

    def _structure(self, field: str) -> Any:
        value = self.values.get(field)
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
            try:
                return json.loads(value)
            except json.JSONDecodeError:
                return value
        return value
