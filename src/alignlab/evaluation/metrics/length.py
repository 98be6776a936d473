"""Length of responses in tokens, words and characters, and how many are empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignlab.evaluation.metrics.intervals import Ints
from alignlab.text import words
from alignlab.types import Response


@dataclass(frozen=True)
class ResponseLengths:
    """Lengths of N responses, in their order."""

    tokens_N: Ints
    """Tokens counted by the model that wrote the response, the end-of-turn token included."""
    words_N: Ints
    """Words and runs of punctuation."""
    characters_N: Ints
    empty_N: Ints
    """Indicator, 1 where the text is empty or white space."""


def lengths(responses: Sequence[Response]) -> ResponseLengths:
    """Measure the length of each response; four arrays of shape (N,)."""
    return ResponseLengths(
        tokens_N=np.array([r.tokens for r in responses], dtype=np.int64),
        words_N=np.array([len(words(r.text)) for r in responses], dtype=np.int64),
        characters_N=np.array([len(r.text) for r in responses], dtype=np.int64),
        empty_N=np.array([not r.text.strip() for r in responses], dtype=np.int64),
    )
