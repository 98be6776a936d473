"""Options behind a name: `strong?judge_noise=0.5&seed=1`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from alignlab.configs import build, parse_overrides

T = TypeVar("T")


@dataclass(frozen=True)
class Named(Generic[T]):
    """A name with its options."""

    name: str
    options: T


def read_options(rest: str, cls: type[T]) -> Named[T]:
    """Split `NAME?key=value&key=value` and build the options.

    Raises:
        BadInput: an option that is unknown, of the wrong type, or not key=value.
    """
    name, _, query = rest.partition("?")
    overrides = parse_overrides([part for part in query.split("&") if part])
    return Named(name, build(cls, overrides))
