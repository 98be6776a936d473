"""Errors that the command line turns into exit codes, and builders of their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

FOUND_CHARACTERS = 80
"""Most characters of a bad value in a message."""
EXPECTED_CHARACTERS = 800
"""Most characters of what was expected, which may name texts of the data."""


class BadInput(Exception):
    """Unusable input: exit code 2, one line with place and reason."""


class RunFailed(Exception):
    """Failed run (exhausted budget, dead server): exit code 1."""


class EngineLost(RunFailed):
    """Engine whose process has ended; what it was asked for may be asked of another one."""


class NothingToLearn(RunFailed):
    """Training whose feedback left no record; a study of several branches goes on without it."""


def bad_record(
    file: object, line: int | None, field: str | None, expected: str, found: object
) -> BadInput:
    """Build the one-line error of a bad record: file, line, field, expected, found."""
    where = f"{file}" + (f", line {line}" if line is not None else "")
    what = f", field {field!r}" if field else ""
    shown = found if isinstance(found, str) else repr(found)
    short = _cut(expected, EXPECTED_CHARACTERS)
    return BadInput(f"{where}{what}: expected {short}, found {_cut(shown, FOUND_CHARACTERS)}")


def _cut(text: str, most: int) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def unknown_name(kind: str, name: str, known: Iterable[str], meant: Sequence[str] = ()) -> BadInput:
    """Build the error of an unknown name, with the nearest known one.

    Args:
        meant: names to suggest instead of the nearest.
    """
    names = sorted(known)
    near = meant or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return BadInput(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")


def refuse_unknown(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Check that all names are known.

    Raises:
        BadInput: one is not; it is named, with the nearest known one.
    """
    every = set(known)
    for name in names:
        if name not in every:
            raise unknown_name(kind, name, every)


@contextmanager
def expecting(expected: str, spec: object) -> Iterator[None]:
    """Turn errors of a library on reading a file into one line of `BadInput`."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{spec}: expected {expected}, found: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
