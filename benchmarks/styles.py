"""Mark answers by principles of style that a program can check.

For `instructable_reward`: `python:benchmarks/styles.py:{principle}` scores an answer by one
principle of `benchmarks/styles.txt` (its name is a function here), from 0 to 1, and
`python:benchmarks/styles.py:followed` by all but `brief`, their mean.
"""

from __future__ import annotations

import re

ITEM = re.compile(r"^\s*(?:[-*\u2022]|\d+[.)])\s", re.MULTILINE)
EXAMPLE = re.compile(r"\b(?:for example|for instance|such as|e\.g\.)", re.IGNORECASE)
YOU = re.compile(r"\byou(?:r|rs|rself)?\b", re.IGNORECASE)
BRIEF_WORDS = 60
"""Words from which an answer is not brief at all."""


def lists(response: str) -> float:
    """Return 1 for an answer with two items of a list or more."""
    return float(len(ITEM.findall(response)) >= 2)


def numbers(response: str) -> float:
    """Return 1 for an answer with a digit outside the marks of a list."""
    return float(bool(re.search(r"\d", ITEM.sub("", response))))


def examples(response: str) -> float:
    """Return 1 for an answer that introduces an example."""
    return float(bool(EXAMPLE.search(response)))


def addressing(response: str) -> float:
    """Return 1 for an answer that addresses the reader."""
    return float(bool(YOU.search(response)))


def questions(response: str) -> float:
    """Return 1 for an answer that asks a question."""
    return float("?" in response)


def brief(response: str) -> float:
    """Return 1 for an empty answer, falling to 0 at 60 words."""
    return max(0.0, 1 - len(response.split()) / BRIEF_WORDS)


def followed(response: str) -> float:
    """Return the share of the principles that an answer follows, `brief` left out."""
    marks = [mark(response) for mark in (lists, numbers, examples, addressing, questions)]
    return sum(marks) / len(marks)
