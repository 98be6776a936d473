"""Average metrics over steps and write them to metrics.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from alignlab.errors import bad_record
from alignlab.files import make_folder, write_text


class MetricSums:
    """Sums of metrics since the last line, as a dictionary that a checkpoint stores."""

    def __init__(self, sums: Mapping[str, list[float]] | None = None) -> None:
        self.sums: dict[str, list[float]] = {k: list(v) for k, v in (sums or {}).items()}

    def add(self, name: str, total: float, weight: float) -> None:
        """Add a sum of values and the sum of their weights."""
        into = self.sums.setdefault(name, [0.0, 0.0])
        into[0] += total
        into[1] += weight

    def add_groups(self, metrics: Mapping[str, Tensor]) -> None:
        """Add metrics with one value per group."""
        for name, value_B in metrics.items():
            self.add(name, float(value_B.sum()), value_B.numel())

    def means(self) -> dict[str, float]:
        """Return the mean of each metric with a weight above 0."""
        return {name: total / weight for name, (total, weight) in self.sums.items() if weight}


class MetricsFile:
    """File metrics.jsonl of a run; wall-clock values have keys that start with "time/"."""

    def __init__(self, path: Path, lines: int, *, writes: bool = True) -> None:
        """Continue a file after so many lines; later lines belong to steps to be repeated.

        Args:
            path: the file.
            lines: number of valid lines.
            writes: False on worker ranks, which count the main rank's lines.
        """
        self.path = path
        self.lines = lines
        self._writes = writes
        if not writes:
            return
        valid = path.read_text(encoding="utf-8").splitlines(True)[:lines] if path.is_file() else []
        make_folder(path.parent)
        if len(valid) < lines:
            found = f"{len(valid)}; give another output folder, or delete it"
            raise bad_record(path, None, None, f"{lines} lines, as the checkpoint counts", found)
        write_text(path, "".join(valid))

    def last(self, name: str) -> float:
        """Return a value of the last line; NaN where the file is empty."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return float(json.loads(lines[-1])[name]) if lines else math.nan

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line; values that are not finite become null."""
        finite = {
            k: (v if not isinstance(v, float) or math.isfinite(v) else None)
            for k, v in line.items()
        }
        if self._writes:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(finite, allow_nan=False) + "\n")
        self.lines += 1
