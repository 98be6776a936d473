"""Finding of a check: one line on whether a run can succeed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "skipped"]


@dataclass(frozen=True)
class Finding:
    """Result of one diagnosis."""

    about: str
    """Subject: length, format, labels, duplicates, overlap, template, off-policy, judge NAME."""
    level: Level
    """"warn": the run is likely to fail or to mislead; "skipped": not tried, the text says why."""
    text: str
    value: float | None = None
    """Figure that decides, if there is one."""

    def __str__(self) -> str:
        return f"{self.level:8}{self.about}: {self.text}"


def judged(about: str, text: str, value: float, *, bad: bool) -> Finding:
    """Return a finding that warns if `bad`."""
    return Finding(about, "warn" if bad else "ok", text, value)
