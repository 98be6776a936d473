"""Recall: share of a reference answer's new words that an answer holds; no judge.

Counted are the reference's words that the question does not hold and that are no function words
("yes", "no" and "not" do count). It compares words, not truth: synonyms are missed, and an answer
with everything in it is not punished for its errors.
"""

from __future__ import annotations

import re

_SAID = frozenset({"yes", "no", "not"})
_WORD = re.compile(r"\w+")


def recall(answer: str, question: str, reference: str) -> float | None:
    """Return the share of the reference's new words that the answer holds; None without any."""
    new = _telling(reference) - (_telling(question) - _SAID)
    return len(new & _telling(answer)) / len(new) if new else None


def _telling(text: str) -> set[str]:
    """Return a text's words, without case and without function words."""
    # Importing it takes a second.
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words: set[str] = set(_WORD.findall(text.lower()))
    return words - (set(ENGLISH_STOP_WORDS) - _SAID)
