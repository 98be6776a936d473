"""Read rows of a JSON document: a list, lists in an object (`{"data": [...]}`), or one object."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

from alignlab.data.rows import Row
from alignlab.errors import BadInput, bad_record
from alignlab.strict_json import STRICT_JSON, parse_json

TRAIN_LISTS = frozenset({"data", "rows", "records", "examples", "instances", "items", "train"})
"""Keys of an object whose list holds the records."""
TEST_LISTS = frozenset({"test", "testing", "validation", "valid", "val", "dev", "eval"})
TEST_LISTS |= {"evaluation", "heldout", "held_out", "holdout"}
"""Keys whose list holds held-out records, if another list holds training records."""
_TEST_NAME = re.compile(
    r"(^|[^a-z])(test(ing|s)?|eval(s|uation)?|dev|val|valid(ation)?|held[_ -]?out|hold[_ -]?out)"
    r"([^a-z]|$)"
)

_SPACE = re.compile(r"[ \t\r\n]*")


def is_test_name(name: str) -> bool:
    """Return true for the name of a file or a split that holds test data."""
    return _TEST_NAME.search(name.lower()) is not None


def json_rows(file: str, text: str, complain: Callable[[BadInput], None]) -> Iterator[Row] | None:
    """Read the rows of a document with their first lines; None for one object per line."""
    start = _skip(text, 0)
    if text[start : start + 1] == "[":
        return _only_list(file, text, start, complain)
    try:
        whole = parse_json(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            return None
        complain(broken_json(file, error))
        return iter(())
    if not isinstance(whole, dict):
        complain(bad_record(file, 1, None, "a list or an object", repr(whole)))
        return iter(())
    lists = {key for key, value in whole.items() if isinstance(value, list)}
    lists &= TRAIN_LISTS | TEST_LISTS
    if not lists:
        return iter([Row(file, 1, whole)] if whole else [])
    _refuse_further(file, whole, lists, complain)
    return _inner_rows(file, text, lists, complain)


def _refuse_further(
    file: str, whole: dict[str, Any], lists: set[str], complain: Callable[[BadInput], None]
) -> None:
    """Complain of lists under other names whose objects have the fields of the records."""
    fields = {frozenset(row) for key in lists for row in whole[key][:1] if isinstance(row, dict)}
    for key, value in whole.items():
        if key in lists or not isinstance(value, list) or not value:
            continue
        if isinstance(value[0], dict) and frozenset(value[0]) in fields:
            expected = f"all records in {' or '.join(sorted(lists))}"
            complain(bad_record(file, 1, key, expected, f"{len(value)} further records"))


def _inner_rows(
    file: str, text: str, lists: set[str], complain: Callable[[BadInput], None]
) -> Iterator[Row]:
    """Read the rows of the named top-level lists of a valid object."""
    some_train = bool(lists & TRAIN_LISTS)
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] == '"':
        key, at = STRICT_JSON.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # over the colon
        if key in lists:
            held_out = some_train and key in TEST_LISTS
            for row in _list_rows(file, text, at, complain):
                yield replace(row, held_out=held_out)
        _, at = STRICT_JSON.raw_decode(text, at)
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at


def _only_list(
    file: str, text: str, start: int, complain: Callable[[BadInput], None]
) -> Iterator[Row]:
    """Read the rows of a list that must end the text."""
    end = yield from _list_rows(file, text, start, complain)
    if end is not None and (rest := _skip(text, end)) < len(text):
        line, found = text.count("\n", 0, rest) + 1, repr(text[rest : rest + 20])
        complain(bad_record(file, line, None, "the end of the file after its list", found))


def _list_rows(
    file: str, text: str, start: int, complain: Callable[[BadInput], None]
) -> Generator[Row, None, int | None]:
    """Read the rows of the list that opens at `start`; return its end, None for broken JSON."""
    at, line, counted = _skip(text, start + 1), 1, 0
    if text[at : at + 1] == "]":
        return at + 1
    while True:
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = STRICT_JSON.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            complain(broken_json(file, error, line))
            return None
        if isinstance(value, dict):
            yield Row(file, line, value)
        else:
            complain(bad_record(file, line, None, "an object", repr(value)))
        at = _skip(text, end)
        if text[at : at + 1] == "]":
            return at + 1
        if text[at : at + 1] != ",":
            found = repr(text[at : at + 20]) if at < len(text) else "the end of the file"
            where = text.count("\n", 0, at) + 1
            complain(bad_record(file, where, None, "',' or ']' after a record", found))
            return None
        at = _skip(text, at + 1)


def broken_json(file: str, error: Exception, line: int = 1) -> BadInput:
    """Build the error of invalid JSON, or of JSON beyond Python's limits (depth, digits)."""
    if not isinstance(error, json.JSONDecodeError):
        return bad_record(file, line, None, "JSON", str(error))
    # The decoder counts lines from 1 within its text, a single line or the whole document.
    found = f"{error.msg} at column {error.colno}"
    return bad_record(file, max(line, error.lineno), None, "JSON", found)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
