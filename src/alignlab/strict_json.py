"""Parse JSON whose objects name each key once: of two values under one name, neither is dropped."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: the text is not JSON, or an object repeats a key.
    """
    return STRICT_JSON.decode(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} twice")
    return values


STRICT_JSON = json.JSONDecoder(object_pairs_hook=_unique_keys)
"""Decoder for texts that hold further texts after the JSON."""
