"""Parse specs with options: `strong?judge_noise=0.5&seed=1`, `FOLDER?batch_size=8`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

from alignlab.configs import build, parse_overrides
from alignlab.errors import BadInput

T = TypeVar("T")

WITHOUT_EFFECT_ON_ANSWERS = frozenset(
    {
        "concurrency", "timeout_s", "attempts", "backoff_s", "give_up_after",
        "usd_per_million_prompt", "usd_per_million_completion",
        "budget_usd", "budget_tokens", "budget_calls", "token_limit_field", "without",
    }
)  # fmt: skip
"""Options of endpoints that leave answers unchanged: speed, retries, prices, budgets, field names.

A stopped run may resume with other values of them."""


@dataclass(frozen=True)
class Split:
    """Head and options of `HEAD?key=value&key=value`."""

    head: str
    options: tuple[str, ...]
    """Unparsed key=value texts."""


@dataclass(frozen=True)
class Named(Generic[T]):
    """Name or path with its options."""

    name: str
    options: T


def split(rest: str) -> Split:
    """Split `HEAD?key=value&key=value` into head and options.

    Raises:
        BadInput: an option is given twice.
    """
    head, _, query = rest.partition("?")
    options = tuple(part for part in query.split("&") if part)
    keys = [option.partition("=")[0] for option in options]
    for key in keys:
        if keys.count(key) > 1:
            raise BadInput(f"{head}: expected each option once, found {key!r} twice")
    return Split(head, options)


def drops_bad(data: str | tuple[str, ...]) -> bool:
    """Return whether data specs leave bad records out and count them (`?bad=drop` in any)."""
    specs = (data,) if isinstance(data, str) else data
    return any("bad=drop" in split(spec).options for spec in specs)


def read_options(rest: str, cls: type[T]) -> Named[T]:
    """Split `HEAD?key=value&key=value` and build the options.

    Raises:
        BadInput: an option is unknown, of the wrong type, or not key=value.
    """
    parts = split(rest)
    return Named(parts.head, build(cls, parse_overrides(parts.options)))


def lasting(text: str) -> str:
    """Remove the options that leave answers unchanged from the specs in a setting.

    A run stopped at its budget resumes with a higher one.
    """
    return re.sub(r"\?([^?|\s]*)", _lasting_options, text)


def _lasting_options(query: re.Match[str]) -> str:
    lasting = [
        option
        for option in query[1].split("&")
        if option.partition("=")[0] not in WITHOUT_EFFECT_ON_ANSWERS
    ]
    return f"?{'&'.join(lasting)}" if lasting else ""
