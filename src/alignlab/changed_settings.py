"""Refuse to resume a run or a stage with other settings than it was started with."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Set
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput
from alignlab.records import default_keys, to_dict
from alignlab.specs import lasting

Difference = tuple[str, Any, Any]
"""Dotted name of a setting, its value before, its value now."""


def refuse_change(
    where: Path, before: Any, now: Any, settings: Any, given: Collection[str] | None = None
) -> None:
    """Refuse settings that differ from those before; all are listed.

    A setting that was not there yet, and holds its default, is no difference.

    Args:
        settings: record or mapping of records that `now` was made of, which knows the defaults.
        given: settings that the user chose, listed first; None where that is not known.

    Raises:
        BadInput: the settings that differ.
    """
    found = list(_differences(before, to_dict(now), set(default_keys(settings))))
    if not found:
        return
    chosen = [d for d in found if any(f"{d[0]}.".startswith(f"{g}.") for g in given or ())]
    others = [d for d in found if d not in chosen]
    own, rest = (", ".join(f"{k}={a!r}, found {b!r}" for k, a, b in d) for d in (chosen, others))
    listed = f"{own}; not chosen in this call: {rest}" if own and rest else own or rest
    # Defaults that changed with the version need not end a run: the old values can be given.
    old = " ".join(f"{k}={a if isinstance(a, str) else json.dumps(a)}" for k, a, _ in others)
    keep = f"add {old} to go on, or " if given is not None and not chosen else ""
    raise BadInput(
        f"{where}: this run was started with {listed}; "
        f"{keep}use another out= for another configuration"
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
