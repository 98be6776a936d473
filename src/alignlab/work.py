"""Work of a dry run: calls and trainings of its stages, and the lengths of their texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any, TypeVar

from alignlab.speed import NOTHING, Compute

Row = TypeVar("Row", str, list[int])

CHARACTERS = 3
"""Characters per token, a low estimate for English."""


@dataclass(frozen=True)
class Lengths:
    """Lengths of texts in a dry run; by default the upper bounds of the settings."""

    characters: float = CHARACTERS
    """Characters per token."""
    answer: float | None = None
    """Typical tokens of an answer; 0 for half as many as the settings allow, None for as many."""
    prompt: float | None = None
    """Typical tokens of a prompt that a model writes."""
    template: float = 0.0
    """Tokens that the chat template adds to a prompt."""

    @property
    def typical(self) -> bool:
        """Return True for typical lengths, False for upper bounds."""
        return self.answer is not None

    def drawn(self, what: str, most: int) -> float:
        """Return the tokens of a reply of at most `most` tokens; half of it for a judgement."""
        if not self.typical:
            return most
        typical = {"prompts": self.prompt, "answers": self.answer, "rollouts": self.answer}
        return min(most, typical.get(what) or most / 2)


@dataclass(frozen=True)
class Work:
    """Calls, or a training, of one stage."""

    stage: str
    what: str
    by: str
    calls: int
    tokens: int | None = 0
    """Upper bound on generated tokens; None where the called part decides."""
    read: int = 0
    """Estimated prompt tokens."""
    model: str = ""
    """Folder of the model that computes on this machine; empty if none does."""
    compute: Compute = NOTHING
    branch: str = ""
    """Branch of the study that runs in a process of its own; empty for none."""


@dataclass(frozen=True)
class Trained:
    """Size of a training: tokens of all passes, of the reference's pass, and optimiser steps."""

    tokens: float
    reference: float = 0.0
    steps: int = 0
    loop: Any = None
    """Settings of the training, a `TrainConfig`."""
    largest: int = 0
    """Tokens of the largest step of the optimiser; 0 where unknown."""
    group: int = 0
    """Tokens of a typical prompt with its responses; 0 where unknown."""


def apart(rows: Sequence[Row]) -> list[Row]:
    """Return what is left of each row, sorted, without the start that it shares with the last one.

    A row is a text or its tokens. Together they are what a pass reads where starts are read once.
    """
    ordered: list[Row] = sorted(rows)
    found: list[Row] = ordered[:1]
    for last, row in pairwise(ordered):
        found.append(row[_common(last, row) :])
    return found


def _common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Count the elements that two rows start with."""
    least, most = 0, min(len(a), len(b))
    while least < most:
        middle = (least + most + 1) // 2
        if a[:middle] == b[:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def largest_step(groups: Sequence[int], batch: int) -> int:
    """Estimate the tokens of the largest step: two standard deviations above a mean one.

    Args:
        groups: tokens of each prompt with its responses, or of a sample of them.
        batch: prompts of a step.
    """
    if not groups:
        return 0
    return math.ceil(batch * fmean(groups) + 2 * math.sqrt(batch) * pstdev(groups))
