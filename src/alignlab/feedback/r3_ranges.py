"""Ranges of R3's terms on samples, and the file that stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from alignlab import files
from alignlab.configs import build
from alignlab.errors import BadInput

FEWEST = 20
"""Fewest samples for a range."""


@dataclass(frozen=True)
class Range:
    """Range of a term: at or below `low` it counts 0, at or above `high` 1."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Scale a value linearly to [0, 1] between the bounds."""
        return float(np.clip((value - self.low) / (self.high - self.low), 0.0, 1.0))

    @classmethod
    def of(cls, values: Sequence[float], what: str) -> Range:
        """Return the range from the 2nd to the 98th percentile.

        Raises:
            BadInput: too few values, or all of them the same.
        """
        if len(values) < FEWEST:
            raise BadInput(
                f"r3: {what}: expected at least {FEWEST} samples for a range, found {len(values)}"
            )
        low, high = np.percentile(values, [2, 98]).tolist()
        if not high > low:
            raise BadInput(f"r3: {what}: expected different values, found {low:g} in all samples")
        return cls(low, high)


@dataclass(frozen=True)
class Ranges:
    """Ranges of all terms."""

    length: Range
    """Length of open-ended answers, in hundreds of words."""
    open: Range
    """Relevance to open-ended questions."""
    closed: Range
    """Relevance to the references of closed-ended questions."""


def write_ranges(path: Path, ranges: Ranges) -> None:
    """Write ranges as JSON."""
    files.write_json(path, asdict(ranges))


def read_ranges(path: Path) -> Ranges:
    """Read ranges from JSON.

    Raises:
        BadInput: there is no such file, or it holds something else.
    """
    try:
        found = files.read_json(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"r3: ranges: {path}: expected a JSON file of ranges, {error}") from None
    if not isinstance(found, dict):
        raise BadInput(f"r3: ranges: {path}: expected an object, found {type(found).__name__}")
    return build(Ranges, found)
