"""Refuse to resume a run or a stage with other settings than it was started with."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput
from alignlab.records import default_keys, to_dict
from alignlab.specs import lasting

Difference = tuple[str, Any, Any]
"""Dotted name of a setting, its value before, its value now."""


def refuse_change(
    where: Path, before: Any, now: Any, settings: Any, given: Collection[str] = ()
) -> None:
    """Refuse settings that differ from those before; all are listed.

    A setting that was not there yet, and holds its default, is no difference.

    Args:
        settings: record or mapping of records that `now` was made of, which knows the defaults.
        given: settings that the user chose, listed first; without any, no others are told apart.

    Raises:
        BadInput: the settings that differ.
    """
    found = list(_differences(before, to_dict(now), set(default_keys(settings))))
    if not found:
        return
    chosen = [d for d in found if any(d[0] == g or d[0].startswith(f"{g}.") for g in given)]
    others = [d for d in found if d not in chosen]
    parts = [", ".join(f"{key}={old!r}, found {new!r}" for key, old, new in chosen)]
    rest = ", ".join(f"{key}={old!r}, found {new!r}" for key, old, new in others)
    if rest:
        parts.append(f"not chosen in this call: {rest}" if chosen else rest)
    raise BadInput(
        f"{where}: this run was started with {'; '.join(filter(None, parts))}; "
        "use another out= for another configuration"
    )


def _differences(a: Any, b: Any, defaults: Set[str], key: str = "") -> Iterator[Difference]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            inner = f"{key}.{name}".lstrip(".")
            if name in a or inner not in defaults:
                yield from _differences(a.get(name), b.get(name), defaults, inner)
        return
    same = isinstance(a, str) and isinstance(b, str) and lasting(a) == lasting(b)
    if a != b and not same:
        yield key or "value", a, b
