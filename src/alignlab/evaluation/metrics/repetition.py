"""Repetition: the share of n-grams that occurred before, and distinct-n of a set of texts."""

from __future__ import annotations

from collections.abc import Sequence


def words(text: str) -> list[str]:
    """Words and runs of punctuation (NLTK's `wordpunct_tokenize`)."""
    from nltk.tokenize import wordpunct_tokenize  # importing it takes a second

    return list(wordpunct_tokenize(text))


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n tokens, in order; none when there are fewer than n tokens."""
    if n < 1:
        raise ValueError(f"n-grams need n >= 1; got {n}")
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def ngram_repetition(tokens: Sequence[str], n: int) -> float:
    """1 - distinct/total n-grams of one text; 0 when it has none (arXiv 2402.03469)."""
    found = ngrams(tokens, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def distinct(texts: Sequence[Sequence[str]], n: int) -> float | None:
    """Distinct/total n-grams over all texts (distinct-n, arXiv 1510.03055); None if none."""
    found = [gram for tokens in texts for gram in ngrams(tokens, n)]
    return len(set(found)) / len(found) if found else None
