"""Words, n-grams and sentences of a text, as every measure and reward counts them."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])|\n+")
_ABBREVIATED = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|No|Jr|Sr)|\b[A-Z]|^\s*\d+)\.$"
)
"""Endings after which a sentence goes on: titles, initials, numbers of a list."""
_FORMAT = (
    (0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160),
    (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F),
    (0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0),
    (0xFFF9, 0xFFFB), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""Ranges of control and format characters, fillers and selectors, which show nothing."""
_BLANK = "".join(chr(code) for first, last in _FORMAT for code in range(first, last + 1)) + "".join(
    filter(str.isspace, map(chr, range(0x20, 0x3001)))
)


def trimmed(text: str) -> str:
    """Strip white space, control and zero-width characters from both ends of a text."""
    return text.strip(_BLANK)


def words(text: str) -> list[str]:
    """Words and runs of punctuation (NLTK's `wordpunct_tokenize`)."""
    from nltk.tokenize import wordpunct_tokenize  # importing it takes a second

    return list(wordpunct_tokenize(text))


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n tokens, in order; none when there are fewer than n tokens."""
    if n < 1:
        raise ValueError(f"n-grams need n >= 1; got {n}")
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def distinct_share(tokens: Sequence[str], n: int) -> float:
    """Distinct/total n-grams of one text; 1 when it has none (arXiv 2402.03469)."""
    found = ngrams(tokens, n)
    return len(set(found)) / len(found) if found else 1.0


def sentences(text: str) -> list[str]:
    """The sentences, by punctuation and line breaks; marks of lists stay with what they mark."""
    found: list[str] = []
    goes_on = False
    for part in _sentence_pieces(text):
        if goes_on:
            found[-1] += f" {part}"
        else:
            found.append(part)
        goes_on = _ABBREVIATED.search(part) is not None
    return found


def _sentence_pieces(text: str) -> list[str]:
    return [
        piece.strip() for piece in _SENTENCE_END.split(text) if piece and re.search(r"\w", piece)
    ]
