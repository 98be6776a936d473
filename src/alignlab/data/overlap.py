"""Find training prompts that overlap held-out prompts: equal, sharing 8-grams, or nearly equal.

The 8-grams follow Tülu 3 (arXiv 2411.15124): a held-out prompt is matched if more than half of its
words lie in 8-grams that the training text holds too. Near duplicates differ in about one word of
ten, by ROUGE-L. Words are runs of letters and digits in lower case; equal texts have the same words
and the same operators between their numbers; scripts without blanks between words are matched only
where texts are equal. Words that many held-out prompts share, such as the instruction of a task,
are no overlap: both rules look at the others.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal

from alignlab.data.build_records import Record
from alignlab.data.similarity import rouge_l
from alignlab.types import Prompt

Overlap = Literal[
    "same as a held-out prompt",
    "shares 8-grams with a held-out prompt",
    "nearly a held-out prompt",
]
N = 8
COVERED = 0.5
"""Share of a held-out prompt's words in common 8-grams above which it is matched."""
NEAR = 0.9
"""ROUGE-L from which two prompts are near duplicates."""
MANY = 10
SHARE = 0.1
"""An 8-gram in so many different held-out prompts, and in such a share of them, is the task's
instruction."""
_SHINGLE = 3
_WORD = re.compile(r"\w+")
_SYMBOL = re.compile(r"\w+|(?<=[\d)])\s*[-+*/^=<>%×÷]+\s*(?=[\d(])")
"""Words, and operators between numbers."""


class OverlapIndex:
    """Index of held-out prompts; `find` says how a training text overlaps any of them."""

    def __init__(self, held_out: Sequence[Prompt]) -> None:
        texts = list(dict.fromkeys(prompt.text for prompt in held_out))
        self._same = {_key(text) for text in texts}
        words = [_words(text) for text in texts]
        least = max(MANY, SHARE * len(texts))
        shared = {gram: {test for test, _ in at} for gram, at in _places(words, N).items()}
        self._instruction = {gram for gram, tests in shared.items() if len(tests) >= least}
        self._words = [self._own(found) for found in words]
        self._grams = _places(self._words, N)
        self._shingles = _places(self._words, _SHINGLE)

    def find(self, record: Record) -> Overlap | None:
        """Return how any user turn of a record overlaps a held-out prompt; None if none does."""
        prompt = record if isinstance(record, Prompt) else record.prompt
        found = (self._of_text(m.content) for m in prompt.messages if m.role == "user")
        return next(filter(None, found), None)

    def _of_text(self, text: str) -> Overlap | None:
        if _key(text) in self._same:
            return "same as a held-out prompt"
        words = self._own(_words(text))
        covered: dict[int, set[int]] = defaultdict(set)
        for gram in _grams(words, N):
            for test, start in self._grams.get(gram, ()):
                covered[test].update(range(start, start + N))
        if any(len(places) > COVERED * len(self._words[t]) for t, places in covered.items()):
            return "shares 8-grams with a held-out prompt"
        shared = Counter(
            test
            for gram in set(_grams(words, _SHINGLE))
            for test in {test for test, _ in self._shingles.get(gram, ())}
        )
        # One word changed among ten leaves more than half of the three-word shingles.
        likely = (t for t, n in shared.items() if 2 * n >= len(self._words[t]) - _SHINGLE + 1)
        own = " ".join(words)
        if any(rouge_l(" ".join(self._words[test]), own) >= NEAR for test in likely):
            return "nearly a held-out prompt"
        return None

    def _own(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Return the words that are not of the instruction."""
        shared: set[int] = set()
        for start, gram in enumerate(_grams(words, N)):
            if gram in self._instruction:
                shared.update(range(start, start + N))
        return tuple(word for place, word in enumerate(words) if place not in shared)


def _places(
    texts: Sequence[tuple[str, ...]], n: int
) -> dict[tuple[str, ...], list[tuple[int, int]]]:
    """Map every n-gram to the texts that hold it and the places where it starts."""
    found: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for number, words in enumerate(texts):
        for start, gram in enumerate(_grams(words, n)):
            found[gram].append((number, start))
    return dict(found)


def _grams(words: tuple[str, ...], n: int) -> Iterator[tuple[str, ...]]:
    return (words[i : i + n] for i in range(len(words) - n + 1))


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def _key(text: str) -> str:
    """Normalise a text for equality; texts without any word are compared by their characters."""
    return " ".join(found.strip() for found in _SYMBOL.findall(text.lower())) or text.strip()
