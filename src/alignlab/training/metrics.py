"""Means of a window of steps, as lines of metrics.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


class MetricSums:
    """Sums since the last line; a plain dictionary, so that a checkpoint can hold them."""

    def __init__(self, sums: Mapping[str, list[float]] | None = None) -> None:
        self.sums: dict[str, list[float]] = {k: list(v) for k, v in (sums or {}).items()}

    def add(self, name: str, total: float, weight: float) -> None:
        """Add a sum of values with the weight that they stand for."""
        into = self.sums.setdefault(name, [0.0, 0.0])
        into[0] += total
        into[1] += weight

    def add_groups(self, metrics: Mapping[str, Tensor]) -> None:
        """Add values per group."""
        for name, value_B in metrics.items():
            self.add(name, float(value_B.sum()), value_B.numel())

    def means(self) -> dict[str, float]:
        return {name: total / weight for name, (total, weight) in self.sums.items() if weight}


class MetricsFile:
    """metrics.jsonl of a run; wall-clock values stand under keys that start with "time/"."""

    def __init__(self, path: Path, lines: int, *, writes: bool = True) -> None:
        """Continue the file after so many lines; later ones are of steps to be done again.

        One that does not write counts the lines that another process writes.
        """
        self.path = path
        self.lines = lines
        self._writes = writes
        if not writes:
            return
        kept = path.read_text(encoding="utf-8").splitlines(True)[:lines] if path.is_file() else []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(kept), encoding="utf-8")

    def last(self, name: str) -> float:
        """A value of the last line; not a number when there is none."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return float(json.loads(lines[-1])[name]) if lines else math.nan

    def write(self, line: Mapping[str, Any]) -> None:
        plain = {
            k: (v if not isinstance(v, float) or math.isfinite(v) else None)
            for k, v in line.items()
        }
        if self._writes:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(plain, allow_nan=False) + "\n")
        self.lines += 1
