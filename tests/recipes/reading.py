"""Read the records and figures of a finished study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def records(out: Path, pattern: str) -> list[dict[str, Any]]:
    """Read the records of the one file of the stages that a pattern names."""
    (file,) = out.glob(f"stages/{pattern}")
    return [json.loads(line) for line in file.read_text().splitlines()]


def rows(out: Path, **wanted: Any) -> list[dict[str, Any]]:
    """Return the rows of a study's summary that have these values."""
    found = json.loads((out / "summary.json").read_text())["rows"]
    return [r for r in found if all(r[k] == v for k, v in wanted.items())]
