"""Reader of benchmark files: JSONL, JSON lists, CSV, TSV, Parquet and spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from alignlab.errors import BadInput, bad_record
from alignlab.files import csv_reader, read_text, sheet_rows
from alignlab.strict_json import parse_json

T = TypeVar("T")
KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".xlsx")


@dataclass(frozen=True)
class BenchmarkRow:
    """Record of a file with its place, which error messages name."""

    file: Path
    line: int
    """Line of a JSONL or CSV file; position, from 1, in a JSON list or in Parquet."""
    values: Mapping[str, Any] = field(repr=False)

    def text(self, *names: str) -> str:
        """Read the first present field as a text that is not blank.

        Raises:
            BadInput: none is there, or it holds something else.
        """
        for name in names:
            found = self.values.get(name)
            if found is not None:
                if not is_text(found) or not found.strip():
                    raise self.bad(name, "a text", found)
                return found
        raise self.bad(names[0], "a text", f"fields {list(self.values)}")

    def key(self, *names: str) -> str:
        """Read an identifier, a text or a whole number, as text.

        Raises:
            BadInput: none of the fields is there, or it holds something else.
        """
        for name in names:
            found = self.values.get(name)
            if found is not None:
                whole = isinstance(found, float) and found.is_integer()
                is_number = whole or (isinstance(found, int) and not isinstance(found, bool))
                if not is_number and not is_text(found):
                    raise self.bad(name, "a text or a number", found)
                return id_text(found)
        raise self.bad(names[0], "an id", f"fields {list(self.values)}")

    def texts(self, name: str) -> list[str]:
        """Read a list of texts, at least one; a JSON list written as text is read as one.

        Raises:
            BadInput: the field is something else.
        """
        found = self.values.get(name)
        if isinstance(found, str) and found.startswith("["):
            try:
                found = json.loads(found)
            except (ValueError, RecursionError):
                raise self.bad(name, "a list of texts", found) from None
        if not isinstance(found, list) or not found or not all(map(is_text, found)):
            raise self.bad(name, "a list of texts", found)
        return found

    def objects(self, name: str) -> list[dict[str, Any]]:
        """Read a list of objects, maybe empty.

        Raises:
            BadInput: the field is something else.
        """
        found = self.values.get(name)
        if not isinstance(found, list):
            raise self.bad(name, "a list of objects", found)
        for number, one in enumerate(found):
            if not isinstance(one, dict):
                raise self.bad(f"{name}[{number}]", "an object", one)
        return found

    def maybe(self, name: str) -> str | None:
        """Read a text; None where the field is absent or empty.

        Raises:
            BadInput: the field is no text.
        """
        found = self.values.get(name)
        if found is None or found == "":
            return None
        if not is_text(found):
            raise self.bad(name, "a text", found)
        return found

    def bad(self, name: str | None, expected: str, found: object) -> BadInput:
        """Build the error of a field, in one line whatever characters were found."""
        if isinstance(found, str) and not found.isprintable():
            found = repr(found)
        return bad_record(self.file, self.line, name, expected, found)


def is_text(value: object) -> TypeGuard[str]:
    """Return True for a text that UTF-8 can encode: JSON may hold halves of a character."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def keyed(
    rows: Sequence[BenchmarkRow], name: str, key_of: Callable[[BenchmarkRow], T]
) -> dict[T, BenchmarkRow]:
    """Map each row's key to the row.

    Args:
        rows: rows of a file.
        name: field of the key, for the error.
        key_of: reader of the key.

    Raises:
        BadInput: two rows share a key.
    """
    found: dict[T, BenchmarkRow] = {}
    for row in rows:
        key = key_of(row)
        if key in found:
            raise row.bad(name, "each once", f"{key}, as in line {found[key].line}")
        found[key] = row
    return found


def id_text(value: Any) -> str:
    """Return an identifier as text; 81.0, as tables write a column with gaps, is 81."""
    text = str(value)
    return text[:-2] if re.fullmatch(r"-?\d+\.0", text) else text


def read_rows(path: Path) -> list[BenchmarkRow]:
    """Read all records of a file.

    Raises:
        BadInput: no such file, a kind of file that is not read, a bad record, or none.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if kind not in KINDS:
        raise BadInput(f"{path}: expected one of {', '.join(KINDS)} (or .gz), found {kind!r}")
    if kind == ".xlsx":
        rows = [BenchmarkRow(path, number, values) for number, values in sheet_rows(path)]
    elif kind == ".parquet":
        rows = list(_from_parquet(path))
    elif kind in (".csv", ".tsv"):
        rows = list(_from_csv(path, read_text(path), "\t" if kind == ".tsv" else ","))
    else:
        rows = list(_from_json(path, read_text(path), is_list=kind == ".json"))
    if not rows:
        raise BadInput(f"{path}: expected at least one record, found none")
    return rows


def _from_json(path: Path, text: str, *, is_list: bool) -> Iterator[BenchmarkRow]:
    """Read a JSON list, or one object per line, as in many published .json files."""
    if is_list and not text.lstrip().startswith("{"):
        for number, value in enumerate(_list(path, text), start=1):
            yield _row(path, number, value)
        return
    # Not splitlines(): texts may hold line separators that JSON does not escape.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values = parse_json(line)
            except (ValueError, RecursionError) as error:
                raise bad_record(path, number, None, "a JSON object", _reason(error)) from None
            yield _row(path, number, values)


def _list(path: Path, text: str) -> list[Any]:
    try:
        values = parse_json(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise bad_record(path, line, None, "a JSON list", _reason(error)) from None
    if not isinstance(values, list):
        raise bad_record(path, None, None, "a JSON list", type(values).__name__)
    return values


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _from_csv(path: Path, text: str, delimiter: str) -> Iterator[BenchmarkRow]:
    try:
        names, records = csv_reader(iter(io.StringIO(text, newline="")), delimiter)
        for number, cells in records:
            if len(cells) != len(names):
                found = f"{len(cells)} cells"
                raise bad_record(path, number, None, f"{len(names)} cells, as columns", found)
            yield BenchmarkRow(path, number, dict(zip(names, cells, strict=True)))
    except csv.Error as error:
        raise bad_record(path, None, None, "CSV", str(error)) from None


def _from_parquet(path: Path) -> Iterator[BenchmarkRow]:
    from pyarrow import parquet
    from pyarrow.lib import ArrowException

    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError, ValueError) as error:  # what pyarrow raises for damage
        raise BadInput(f"{path}: expected Parquet, found: {str(error).splitlines()[0]}") from None
    for number, values in enumerate(rows, start=1):
        yield BenchmarkRow(path, number, values)


def _row(path: Path, number: int, values: Any) -> BenchmarkRow:
    if not isinstance(values, dict):
        raise bad_record(path, number, None, "a JSON object", values)
    return BenchmarkRow(path, number, values)
