"""Read the files of runs and write those of scripts; unusable ones are one line, exit code 2.

Scripts do their work inside `one_line()`. What is read is checked field by field, so that a message
names the file, the field, what was expected and what was found.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from alignlab.errors import BadInput, RunFailed, bad_record, first_line
from alignlab.files import read_text, reason_of, write_text
from alignlab.records import whole_records
from alignlab.strict_json import parse_json
from alignlab.types import Feedback

T = TypeVar("T")


class Kind(NamedTuple):
    """Kind of a field's values."""

    expected: str
    fits: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return known and math.isfinite(value)


def _is_list(value: Any, each: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(each, value))


TEXT = Kind("a text", _is_text)
TEXT_OR_NULL = Kind("a text or null", lambda value: value is None or _is_text(value))
TEXTS = Kind("a list of texts", lambda value: _is_list(value, _is_text))
DISTINCT = Kind(
    "a list of different texts",
    lambda value: _is_list(value, _is_text) and len(set(value)) == len(value),
)
NUMBER = Kind("a finite number", _is_number)
NUMBER_OR_NULL = Kind("a finite number or null", lambda value: value is None or _is_number(value))
WHOLE = Kind("a whole number", lambda value: _is_number(value) and isinstance(value, int))
LIST = Kind("a list", lambda value: isinstance(value, list))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
OBJECTS = Kind("a list of objects", lambda value: _is_list(value, OBJECT.fits))
ROW = {
    "model": TEXT, "benchmark": TEXT, "metric": TEXT, "against": TEXT_OR_NULL,
    "group": TEXT_OR_NULL, "value": NUMBER_OR_NULL, "low": NUMBER_OR_NULL, "high": NUMBER_OR_NULL,
    "n": WHOLE, "unscored": WHOLE, "seeds": LIST,
}  # fmt: skip
"""Fields of a row of summary.json."""
OUTCOME_OF = {"1": 1.0, "=": 0.5, "0": 0.0, "?": None}
"""Mark of an outcome in a kept run -> the model's value: a win, a tie, a loss, no verdict."""
OUTCOMES = "".join(OUTCOME_OF)
"""Marks of a win, a tie, a loss, and no verdict."""


@contextmanager
def one_line() -> Iterator[None]:
    """End the script with one line and exit code 2 where its input cannot be used."""
    try:
        yield
    except (BadInput, RunFailed) as error:
        print(" ".join(str(error).splitlines()), file=sys.stderr)
        sys.exit(2)


def refuse_fields(
    place: object, values: Mapping[str, Any], fields: Mapping[str, Kind], within: str = ""
) -> None:
    """Refuse an object that lacks a field, or has one of another kind.

    Args:
        place: the file, or the file and the record, that a message names.
        within: path of the object in its file, such as `rows[3].`.

    Raises:
        BadInput: the first such field.
    """
    for name, kind in fields.items():
        if name not in values:
            raise bad_record(place, None, within + name, kind.expected, "no such field")
        if not kind.fits(values[name]):
            raise bad_record(place, None, within + name, kind.expected, repr(values[name]))


def read_object(file: Path, fields: Mapping[str, Kind]) -> dict[str, Any]:
    """Read a JSON file that holds an object with certain fields.

    Raises:
        BadInput: the file cannot be read, is not JSON, or has another content.
    """
    try:
        found = parse_json(read_text(file))
    except (ValueError, RecursionError) as error:
        raise bad_record(file, None, None, "JSON", first_line(error)) from None
    if not isinstance(found, dict):
        raise bad_record(file, None, None, "an object", repr(found))
    refuse_fields(file, found, fields)
    return found


def read_summary(run: Path) -> dict[str, Any]:
    """Read the summary of a finished run; `rows` are its rows.

    Raises:
        BadInput: there is no run, it is not finished, or a row lacks a field.
    """
    file = run / "summary.json"
    if not run.is_dir():
        raise BadInput(f"{run}: expected the folder of a run, found none")
    if not file.exists():
        raise BadInput(f"{run}: expected a finished run (summary.json), found none")
    summary = read_object(file, {"rows": OBJECTS})
    for number, row in enumerate(summary["rows"]):
        refuse_fields(file, row, ROW, f"rows[{number}].")
        some = [row["low"] is None, row["high"] is None]
        if any(some) != all(some) or (row["value"] is None and not all(some)):
            raise bad_record(
                file, None, f"rows[{number}]", "a value with both bounds or none", repr(row)
            )
    return summary


def read_values(folder: Path) -> dict[str, Any]:
    """Read the values of a kept run: prompts, left_out, scores and outcomes.

    Raises:
        BadInput: they cannot be read, or a model has not one value for each prompt.
    """
    file = folder / "values.json"
    fields = {"prompts": DISTINCT, "left_out": TEXTS, "scores": OBJECT, "outcomes": OBJECT}
    values = read_object(file, fields)
    n = len(values["prompts"])
    scores = Kind(
        f"{n} scores, a number or null for each prompt",
        lambda found: _is_list(found, NUMBER_OR_NULL.fits) and len(found) == n,
    )
    outcomes = Kind(
        f"{n} outcomes, one of {OUTCOMES} for each prompt",
        lambda found: _is_text(found) and len(found) == n and set(found) <= set(OUTCOMES),
    )
    for table, kind in (("scores", scores), ("outcomes", outcomes)):
        for model, by_seed in values[table].items():
            refuse_fields(file, values[table], {model: OBJECT}, f"{table}.")
            refuse_fields(file, by_seed, dict.fromkeys(by_seed, kind), f"{table}.{model}.")
    return values


def read_all(file: Path, cls: type[T]) -> list[T]:
    """Read the records of a file of a run.

    Raises:
        BadInput: a line is no such record, or the last one is not whole.
    """
    try:
        found = list(whole_records(file, cls))
    except UnicodeDecodeError as error:
        raise bad_record(file, None, None, "UTF-8 text", first_line(error)) from None
    lines = file.read_bytes()
    if lines and not lines.endswith(b"\n"):
        at = lines.count(b"\n") + 1
        raise bad_record(file, at, None, f"a {cls.__name__}", "half a line")
    return found


def by_prompt(file: Path) -> dict[str, Feedback]:
    """Read the feedback of a stage that has one verdict for each prompt.

    Raises:
        BadInput: a line cannot be read, or two are about one prompt.
    """
    found: dict[str, Feedback] = {}
    for line, feedback in enumerate(read_all(file, Feedback), start=1):
        if feedback.prompt_id in found:
            again = f"{feedback.prompt_id!r} again"
            raise bad_record(file, line, "prompt_id", "one verdict for each prompt", again)
        found[feedback.prompt_id] = feedback
    return found


def stages_named(scope: Path, name: str, *, deep: bool = False) -> list[Path]:
    """List the feedback files of the stages of one name, in the scope or, `deep`, below it too."""
    numbered = re.compile(rf"\d+-{re.escape(name)}")
    files = scope.glob(f"{'**/' if deep else ''}*/feedback.jsonl")
    return sorted(file for file in files if numbered.fullmatch(file.parent.name))


def refuse_place(out: Path) -> None:
    """Refuse a file that cannot be written as a new one of plain text.

    Raises:
        BadInput: it is there already, its folder is not, or its name is that of a gzip file.
    """
    if out.exists():
        found = "a folder" if out.is_dir() else "a file"
        raise BadInput(f"{out}: expected the name of a new file, found {found} there")
    if out.suffix == ".gz":
        raise BadInput(f"{out}: expected a name without .gz (plain text is written), found .gz")
    if not out.parent.is_dir():
        raise BadInput(f"{out}: expected a folder {out.parent}, found none")


def write(out: Path, text: str) -> None:
    """Write a file in one step.

    Raises:
        BadInput: it cannot be written.
    """
    try:
        write_text(out, text)
    except OSError as error:
        raise BadInput(reason_of(error)) from None
