"""Scale an axis: round ticks, and positions in per cent of the drawing's width or height."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MARGIN = 4.0
"""Free space at both ends, in per cent, so that marks and tick labels are not cut off."""


@dataclass(frozen=True)
class Axis:
    """Linear scale with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float, *, margin: float = MARGIN) -> float:
        """Return the position of a value in per cent, clipped to the ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(margin + (100 - 2 * margin) * min(1.0, max(0.0, share)), 3)


def axis(
    values: Iterable[float | None], *, ticks: int = 5, within: tuple[float, float] | None = None
) -> Axis:
    """Build an axis that covers all values, ends at round ticks, and stays within the bounds."""
    known = [v for v in values if v is not None and math.isfinite(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low < 1e-7 * max(1.0, abs(low), abs(high)):
        pad = max(abs(high) * 0.1, 0.05)
        low, high = low - pad, high + pad
    step = _round_step((high - low) / ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [round(i * step, 10) for i in range(first, last + 1)]
    if within is not None:
        marks = [m for m in marks if within[0] - 1e-9 <= m <= within[1] + 1e-9] or list(within)
    if len(marks) < 2:
        marks = [marks[0] - step, marks[0], marks[0] + step]
    return Axis(marks[0], marks[-1], tuple(marks))


def _round_step(raw: float) -> float:
    """Return the next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
