"""The verdict in a judge's answer: the last one given, or none.

Only the last "Score:" (or "Better:") counts. What it says must be a whole verdict on the judge's
scale; anything else is unreadable, never a guess.
"""

from __future__ import annotations

import re
from typing import Literal

_LABEL = r"{name}(?:\s*\([^()\n]*\))?[*_`]*\s*[:=][*_`\s]*"
_NUMBER = re.compile(
    r"[\[(<\"'$]{0,2}(?P<value>[+-]?\d+(?:\.\d+)?)"
    r"(?![^\W_]|%|\.\d|\s*(?:[-–—]|to\b|or\b)\s*\d)"
    r"[*_`]*(?:\s*(?:/|out\s+of)\s*[*_`]*(?P<top>\d+(?:\.\d+)?))?",
    re.IGNORECASE,
)
_ALONE = re.compile(r"\s*[*_`]*(?P<value>\d+(?:\.\d+)?)[*_`]*\s*\.?\s*")
_WINNER = re.compile(r"[\[(<\"']{0,2}(?P<winner>a|b|tie)\b(?!\s*(?:/|or\b|and\b))", re.IGNORECASE)

Side = Literal["a", "b", "tie"]


def parse_score(text: str, *, low: float, high: float) -> float | None:
    """The number after the last "Score:", or the whole text where it is a number; else None.

    Reads "Score: 4", "score: 4/5", "**Score:** **4**", "Score (0-5): 4", "Score: 4 out of 5". None
    where the number is off the scale, is a range, is of another maximum, or is missing.
    """
    rest = _after_last(text, "score")
    found = _ALONE.fullmatch(text) if rest is None else _NUMBER.match(rest)
    if found is None:
        return None
    value = float(found["value"])
    top = found.groupdict().get("top")
    if not low <= value <= high or (top is not None and float(top) != high):
        return None
    return value


def parse_winner(text: str) -> Side | None:
    """The side named after the last "Better:"; None where there is none."""
    rest = _after_last(text, "better")
    found = _WINNER.match(rest) if rest is not None else None
    if found is None:
        return None
    sides: dict[str, Side] = {"a": "a", "b": "b", "tie": "tie"}
    return sides[found["winner"].lower()]


def _after_last(text: str, name: str) -> str | None:
    matches = list(re.finditer(r"\b" + _LABEL.format(name=name), text, re.IGNORECASE))
    return text[matches[-1].end() :] if matches else None
