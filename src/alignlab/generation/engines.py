"""Shared steps of all engines: construction by spec, checks of sampling, stop strings.

A spec is `local:FOLDER`, `vllm:FOLDER`, `openai:MODEL@URL`, `sandbox:strong`, `scripted:FILE`.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from alignlab.errors import BadInput
from alignlab.protocols import Completer
from alignlab.registry import get, names
from alignlab.types import Completion, Sampling


def completer(spec: str, *, cache_dir: Path | None = None) -> Completer:
    """Make the engine of a spec: registered name, colon, and the rest for its factory.

    `cache_dir` goes to engines whose calls are worth caching (those over HTTP).

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


def check_sampling(sampling: Sampling) -> Sampling:
    """Validate sampling settings and return them.

    Raises:
        BadInput: a field is out of range.
    """
    wrong = (
        ("temperature", sampling.temperature, "at least 0", sampling.temperature >= 0),
        ("top_p", sampling.top_p, "above 0 and at most 1", 0 < sampling.top_p <= 1),
        ("max_tokens", sampling.max_tokens, "at least 1", sampling.max_tokens >= 1),
        ("n", sampling.n, "at least 1", sampling.n >= 1),
        ("stop", sampling.stop, "strings that are not empty", all(sampling.stop)),
    )
    for field, value, expected, fine in wrong:
        if not fine:
            raise BadInput(f"sampling, field {field!r}: expected {expected}, found {value!r}")
    return sampling


def failed(reason: str, *, prompt_tokens: int = 0) -> Completion:
    """Return the completion of a failed call."""
    return Completion(text="", finish="error", tokens=0, prompt_tokens=prompt_tokens, error=reason)


def first_stop(text: str, stop: tuple[str, ...]) -> int | None:
    """Return the position of the first stop string in a text; None where there is none."""
    found = [place for s in stop if (place := text.find(s)) >= 0]
    return min(found) if found else None
