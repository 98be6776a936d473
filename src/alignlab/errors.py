"""The two ways a command ends badly; the command line turns them into exit codes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(Exception):
    """What the user gave cannot be used: exit code 2, one line that says where and why."""


class RunFailed(Exception):
    """The work itself could not be finished (a budget, a dead server): exit code 1."""


def bad_record(
    file: object, line: int | None, field: str | None, expected: str, found: object
) -> BadInput:
    """Build the one-line complaint about a record: file, line, field, expected, found."""
    where = f"{file}" + (f", line {line}" if line is not None else "")
    what = f", field {field!r}" if field else ""
    shown = found if isinstance(found, str) else repr(found)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return BadInput(f"{where}{what}: expected {expected}, found {shown}")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BadInput:
    """Build the complaint about a name that does not exist, with the nearest that does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return BadInput(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")
