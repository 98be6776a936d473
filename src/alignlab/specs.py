"""Options behind a name or a path: `strong?judge_noise=0.5&seed=1`, `FOLDER?batch_size=8`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from alignlab.configs import build, parse_overrides

T = TypeVar("T")


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


def read_options(rest: str, cls: type[T]) -> Named[T]:
    """Split `HEAD?key=value&key=value` and build the options.

    Raises:
        BadInput: an option that is unknown, of the wrong type, or not key=value.
    """
    parts = split(rest)
    return Named(parts.head, build(cls, parse_overrides(parts.options)))
