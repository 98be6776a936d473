"""Split texts into words, n-grams and sentences, for metrics and rewards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import regex

from alignlab.types import Prompt

T = TypeVar("T")

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])|\n+")
_WORDS = regex.compile(r"\w+|[^\w\s]+")  # combining marks belong to words, unlike in `re`
_ABBREVIATED = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|No|Jr|Sr)|\b[A-Z]|^\s*\d+)\.$"
)
"""Endings that do not end a sentence: titles, initials, list numbers."""
_FORMAT = (
    (0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160),
    (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F),
    (0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0),
    (0xFFF9, 0xFFFB), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""Ranges of invisible characters: control and format characters, fillers, selectors."""
_FAILED = frozenset(
    {
        "$ERROR$",
        "NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE.",
    }
)
"""Texts that FastChat, Chatbot Arena and Arena-Hard write where the model's server failed."""
_BLANK = "".join(chr(code) for first, last in _FORMAT for code in range(first, last + 1)) + "".join(
    filter(str.isspace, map(chr, range(0x20, 0x3001)))
)


def conversation(prompt: Prompt) -> str:
    """Return the user's turn, or the whole conversation of several turns with roles."""
    if len(prompt.messages) == 1:
        return prompt.text
    return "\n\n".join(f"{m.role.capitalize()}: {m.content}" for m in prompt.messages)


def shortened(text: str, most: int) -> str:
    """Cut the middle out of a text of more than `most` characters: names differ at their ends."""
    if len(text) <= most:
        return text
    start = (most - 1) // 2
    return f"{text[:start]}…{text[len(text) - (most - 1 - start) :]}"


def without_folders(text: str) -> str:
    """Return a text with paths cut to their last names: `local:/a/m` -> `local:m`."""
    return re.sub(r"(?<=:)/(?!/)(?:[^/?,;\s]+/)*([^/?,;\s]+)", r"\1", text)


def trimmed(text: str) -> str:
    """Strip white space, control and zero-width characters from both ends of a text."""
    return text.strip(_BLANK)


def is_failed_answer(text: str) -> bool:
    """Return True for the text that a tool wrote where a model's server failed."""
    return text.strip("* \n") in _FAILED


def words(text: str) -> list[str]:
    """Split a text into words and runs of punctuation, as NLTK's `wordpunct_tokenize` does."""
    found: list[str] = _WORDS.findall(text)  # importing NLTK for its pattern takes two seconds
    return found


def ngrams(tokens: Sequence[T], n: int) -> list[tuple[T, ...]]:
    """List the n-grams of a token sequence, in order; empty for fewer than n tokens."""
    if n < 1:
        raise ValueError(f"n-grams need n >= 1; got {n}")
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def distinct_share(tokens: Sequence[str] | Sequence[int], n: int) -> float:
    """Return the share of distinct n-grams of a text; 1 without n-grams (arXiv 2402.03469)."""
    grams = ngrams(tokens, n)
    return len(set(grams)) / len(grams) if grams else 1.0


def sentences(text: str) -> list[str]:
    """Split a text into sentences at punctuation and line breaks.

    List marks ("1.") remain at the head of their item.
    """
    return [" ".join(text[a:b] for a, b in pieces) for pieces in _pieces(text)]


def sentence_ends(text: str) -> list[int]:
    """Return the end of each of `sentences(text)`, in characters of the text."""
    return [pieces[-1][1] for pieces in _pieces(text)]


def _pieces(text: str) -> list[list[tuple[int, int]]]:
    """Return the (start, end) of each sentence's pieces; abbreviations split one into several."""
    found: list[list[tuple[int, int]]] = []
    breaks = [(m.start(), m.end()) for m in _SENTENCE_END.finditer(text)]
    starts, ends = [0, *(end for _, end in breaks)], [*(start for start, _ in breaks), len(text)]
    abbreviated = False
    for start, end in zip(starts, ends, strict=True):
        piece = text[start:end]
        if not re.search(r"\w", piece):
            continue
        start += len(piece) - len(piece.lstrip())
        piece = piece.strip()
        span = (start, start + len(piece))
        if abbreviated:
            found[-1].append(span)
        else:
            found.append([span])
        abbreviated = _ABBREVIATED.search(piece) is not None
    return found
