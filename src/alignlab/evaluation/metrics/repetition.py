"""Repetition: share of n-grams that occurred before, and distinct-n of a set of texts."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.text import distinct_share, ngrams


def ngram_repetition(tokens: Sequence[str], n: int) -> float:
    """Return 1 - distinct/total n-grams of one text; 0 when it has none (arXiv 2402.03469)."""
    return 1 - distinct_share(tokens, n)


def distinct(texts: Sequence[Sequence[str]], n: int) -> float | None:
    """Return distinct/total n-grams over all texts (distinct-n, arXiv 1510.03055); None if none."""
    found = [gram for tokens in texts for gram in ngrams(tokens, n)]
    return len(set(found)) / len(found) if found else None
