"""The files of benchmarks: records from JSONL, JSON lists and CSV, gzipped or not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput, bad_record
from alignlab.files import csv_reader, read_text

KINDS = (".jsonl", ".json", ".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class BenchmarkRow:
    """One record with what is needed to complain about it."""

    file: Path
    line: int
    """Line of a JSONL or CSV file; position, from 1, in a JSON list."""
    values: Mapping[str, Any] = field(repr=False)

    def text(self, *names: str) -> str:
        """The first of the fields that is there, a text that is not blank.

        Raises:
            BadInput: none is there, or it holds something else.
        """
        for name in names:
            found = self.values.get(name)
            if found is not None:
                if not isinstance(found, str) or not found.strip():
                    raise bad_record(self.file, self.line, name, "a text", found)
                return found
        raise bad_record(self.file, self.line, names[0], "a text", f"fields {list(self.values)}")

    def key(self, *names: str) -> str:
        """An identifier: a text or a whole number, as text.

        Raises:
            BadInput: none of the fields is there, or it holds something else.
        """
        for name in names:
            found = self.values.get(name)
            if found is not None:
                if isinstance(found, bool) or not isinstance(found, str | int):
                    raise bad_record(self.file, self.line, name, "a text or a number", found)
                return str(found)
        raise bad_record(self.file, self.line, names[0], "an id", f"fields {list(self.values)}")

    def texts(self, name: str) -> list[str]:
        """A list of texts, at least one; a JSON list written as text is read as one.

        Raises:
            BadInput: the field is something else.
        """
        found = self.values.get(name)
        if isinstance(found, str) and found.startswith("["):
            try:
                found = json.loads(found)
            except json.JSONDecodeError:
                raise bad_record(self.file, self.line, name, "a list of texts", found) from None
        if not isinstance(found, list) or not found or not all(isinstance(t, str) for t in found):
            raise bad_record(self.file, self.line, name, "a list of texts", found)
        return found

    def maybe(self, name: str) -> str | None:
        """A text where the field is there; None where it is absent or empty.

        Raises:
            BadInput: the field is no text.
        """
        found = self.values.get(name)
        if found is None or found == "":
            return None
        if not isinstance(found, str):
            raise bad_record(self.file, self.line, name, "a text", found)
        return found


def read_rows(path: Path) -> list[BenchmarkRow]:
    """All records of a file.

    Raises:
        BadInput: no such file, a kind of file that is not read, a bad record, or none.
    """
    text = read_text(path)
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind in (".csv", ".tsv"):
        rows = list(_from_csv(path, text, "\t" if kind == ".tsv" else ","))
    elif kind == ".json":
        rows = list(_from_json(path, text))
    elif kind == ".jsonl":
        rows = list(_from_lines(path, text))
    else:
        raise BadInput(f"{path}: expected one of {', '.join(KINDS[:4])} (or .gz), found {kind!r}")
    if not rows:
        raise BadInput(f"{path}: expected at least one record, found none")
    return rows


def _from_lines(path: Path, text: str) -> Iterator[BenchmarkRow]:
    # Not splitlines(): texts may hold line separators that JSON does not escape.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values = json.loads(line)
            except json.JSONDecodeError as error:
                raise bad_record(path, number, None, "a JSON object", error.msg) from None
            yield _row(path, number, values)


def _from_json(path: Path, text: str) -> Iterator[BenchmarkRow]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise bad_record(path, error.lineno, None, "JSON", error.msg) from None
    if not isinstance(values, list):
        raise bad_record(path, None, None, "a JSON list", type(values).__name__)
    for number, value in enumerate(values, start=1):
        yield _row(path, number, value)


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


def _row(path: Path, number: int, values: Any) -> BenchmarkRow:
    if not isinstance(values, dict):
        raise bad_record(path, number, None, "a JSON object", values)
    return BenchmarkRow(path, number, values)
