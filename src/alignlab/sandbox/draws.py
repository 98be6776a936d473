"""Random draws of the sandbox's writers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Draw one of the options uniformly."""
    return options[int(rng.integers(len(options)))]


def shuffled(rng: np.random.Generator, items: Sequence[T]) -> list[T]:
    """Return the items in random order."""
    return [items[int(i)] for i in rng.permutation(len(items))]


def happens(rng: np.random.Generator, probability: float) -> bool:
    """Draw true with a probability."""
    return bool(rng.random() < probability)
