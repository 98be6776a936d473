"""Corpora made to be good or bad, for the diagnoses."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.types import (
    Corpus,
    Demonstration,
    Message,
    PreferenceGroup,
    Prompt,
    Response,
    SampledBy,
)

WORDS = ["a", "river", "runs", "through", "the", "old", "town", "and", "its", "people", "bake"]


def prompt(i: int, text: str = "") -> Prompt:
    return Prompt(f"p{i}", (Message("user", text or f"What about subject number {i}?"),))


def response(asked: Prompt, name: str, text: str) -> Response:
    return Response(f"{asked.id}/{name}", asked.id, text, SampledBy("someone"))


def pair(i: int, better: str, worse: str, asked: Prompt | None = None) -> PreferenceGroup:
    asked = asked or prompt(i)
    both = (response(asked, "a", better), response(asked, "b", worse))
    return PreferenceGroup(asked, both, (1.0, 0.0), "people")


def shown(i: int, text: str, asked: str = "") -> Demonstration:
    return Demonstration(prompt(i, asked), response(prompt(i), "a", text))


def corpus(groups: Sequence[PreferenceGroup]) -> Corpus:
    return Corpus("made", groups=tuple(groups))


def sentence(i: int, words: int) -> str:
    """Sentence of so many words, different for every i."""
    return f"{i}: " + " ".join(WORDS[(i + k) % len(WORDS)] for k in range(words))
