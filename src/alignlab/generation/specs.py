"""Engines by spec: `local:FOLDER`, `openai:MODEL@URL`, `scripted:FILE`, `sandbox:strong`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TypeVar

from alignlab.configs import build, parse_overrides
from alignlab.errors import BadInput
from alignlab.protocols import Completer
from alignlab.registry import get, names

T = TypeVar("T")


def completer(spec: str, *, cache_dir: Path | None = None) -> Completer:
    """Make the engine a spec names: its registered name, a colon, and the rest for its factory.

    `cache_dir` goes to engines whose calls are worth keeping (those over HTTP).

    Raises:
        BadInput: no such engine, or a rest that its factory does not understand.
    """
    name, colon, rest = spec.partition(":")
    if not colon or not rest:
        raise BadInput(
            f"engine {spec!r}: expected NAME:REST, NAME one of {', '.join(names('engine'))}"
        )
    factory = get("engine", name)
    if "cache_dir" in inspect.signature(factory).parameters:
        engine: Completer = factory(rest, cache_dir=cache_dir)
    else:
        engine = factory(rest)
    return engine


def read_options(rest: str, cls: type[T]) -> tuple[str, T]:
    """Split `HEAD?key=value&key=value` and build the options.

    Raises:
        BadInput: an option that is unknown, of the wrong type, or not key=value.
    """
    head, _, query = rest.partition("?")
    return head, build(cls, parse_overrides([part for part in query.split("&") if part]))
