"""Options behind a name or a path: `strong?judge_noise=0.5&seed=1`, `FOLDER?batch_size=8`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

from alignlab.configs import build, parse_overrides

T = TypeVar("T")

WITHOUT_EFFECT_ON_ANSWERS = frozenset(
    {
        "concurrency", "timeout_s", "attempts", "backoff_s", "give_up_after",
        "usd_per_million_prompt", "usd_per_million_completion",
        "budget_usd", "budget_tokens", "budget_calls", "token_limit_field", "without",
    }
)  # fmt: skip
"""Options of endpoints: speed, retries, prices and budgets, and names of fields that they refuse.

A run that stopped at one of these goes on with another value of it."""


@dataclass(frozen=True)
class Split:
    """`HEAD?key=value&key=value` in its parts."""

    head: str
    options: tuple[str, ...]
    """Each key=value, not yet read."""


@dataclass(frozen=True)
class Named(Generic[T]):
    """A name or a path with its options."""

    name: str
    options: T


def split(rest: str) -> Split:
    """Split what follows a part's name into its head and its options."""
    head, _, query = rest.partition("?")
    return Split(head, tuple(part for part in query.split("&") if part))


def drops_bad(data: str) -> bool:
    """Return whether a data spec leaves bad records out and counts them (`?bad=drop`)."""
    return "bad=drop" in split(data).options


def read_options(rest: str, cls: type[T]) -> Named[T]:
    """Split `HEAD?key=value&key=value` and build the options.

    Raises:
        BadInput: an option that is unknown, of the wrong type, or not key=value.
    """
    parts = split(rest)
    return Named(parts.head, build(cls, parse_overrides(parts.options)))


def lasting(text: str) -> str:
    """A setting without the options of the specs in it that may change while a run is under way.

    A run that stopped at its budget goes on with a higher one.
    """
    return re.sub(r"\?([^?|\s]*)", _lasting_options, text)


def _lasting_options(found: re.Match[str]) -> str:
    kept = [
        option
        for option in found[1].split("&")
        if option.partition("=")[0] not in WITHOUT_EFFECT_ON_ANSWERS
    ]
    return f"?{'&'.join(kept)}" if kept else ""
