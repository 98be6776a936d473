"""ROUGE-L between short texts, fast enough to compare thousands with thousands.

Scores equal those of the `rouge-score` package (F-measure, no stemming), whose tokenizer is used.
Speed comes from a bit-parallel longest common subsequence (Hyyrö 2004: one big-integer update per
word) and from an inverted index of words, which bounds the score of all known texts so that only
candidates for the threshold are compared.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rouge_score.scoring import fmeasure
from rouge_score.tokenize import tokenize


@dataclass(frozen=True)
class Match:
    """Most similar known text."""

    index: int
    """Index of the text, in the order of adding."""
    score: float
    """ROUGE-L F-measure, 0 to 1."""


def rouge_l(one: str, other: str) -> float:
    """Compute the ROUGE-L F-measure of two texts, 0 to 1."""
    return _f_measure(_words(one), _words(other))


def lcs_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Compute the length of the longest common subsequence of two word lists."""
    places: dict[str, int] = defaultdict(int)
    for place, word in enumerate(one):
        places[word] |= 1 << place
    everything = (1 << len(one)) - 1
    row = everything
    for word in other:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & everything
    return len(one) - row.bit_count()


class SimilarityIndex:
    """Index of known texts for similarity search; texts can be added at any time."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._texts: list[list[str]] = []
        self._holding: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add a text to the index."""
        words = _words(text)
        for word, times in Counter(words).items():
            self._holding[word].append((len(self._texts), times))
        self._texts.append(words)

    def nearest(self, text: str, threshold: float) -> Match | None:
        """Find the most similar known text at or above a threshold (above 0); first of equals."""
        words = _words(text)
        shared: Counter[int] = Counter()
        for word, times in Counter(words).items():
            for index, known_times in self._holding.get(word, ()):
                shared[index] += min(times, known_times)
        best: Match | None = None
        # No common subsequence is longer than the number of words in common.
        for index, common in sorted(shared.items()):
            known = self._texts[index]
            bound = 2 * common / (len(words) + len(known))
            if bound + 1e-9 < max(threshold, best.score if best else 0.0):
                continue
            score = _f_measure(known, words)
            if score >= threshold and (best is None or score > best.score):
                best = Match(index, score)
        return best


def _words(text: str) -> list[str]:
    words: list[str] = tokenize(text, None)
    return words


def _f_measure(target: Sequence[str], prediction: Sequence[str]) -> float:
    if not target or not prediction:
        return 0.0
    common = lcs_length(target, prediction)
    return float(fmeasure(common / len(prediction), common / len(target)))
