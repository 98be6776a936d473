"""Parse answers into sentences of known kinds: claims, echoes, filler, noise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from alignlab.sandbox.questions import SandboxQuestion
from alignlab.sandbox.statements import read_sentence
from alignlab.sandbox.world import Fact

FILLER = (
    "That is a good question.",
    "I hope this helps.",
    "Let me think about that.",
    "There is a lot to say.",
    "As you may know.",
)
"""Sentences without content."""
CHATTER = (
    "The weather is nice today.",
    "My cousin has a new bicycle.",
    "Shoes should be dry in winter.",
    "I like to sing in the morning.",
    "Ships are slower than trains.",
)
"""Sentences off the topic."""

Kind = Literal["claim", "yes", "no", "greeting", "echo", "question", "filler", "unclear"]
_MARKER = re.compile(r"(?:(?<=\s)|^)\d[.)](?=\s)")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*|[.!?]+")
_YES_NO = re.compile(r"(yes|no)\b,?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class ParsedLine:
    """One sentence of an answer."""

    text: str
    kind: Kind
    claims: tuple[Fact, ...] = ()
    """Claims of a sentence of kind "claim", "yes" or "no"."""
    finished: bool = True
    """True for a capital first letter and a final full stop."""


def read_answer(question: SandboxQuestion, asked: str, answer: str) -> tuple[ParsedLine, ...]:
    """Parse an answer.

    Args:
        question: parsed question.
        asked: text of the question, to recognise echoes.
        answer: text of the answer.
    """
    asked_plain = {_plain(s) for s in _sentences(asked)} | {_plain(asked)}
    lines: list[ParsedLine] = []
    topic = question.entities[0] if len(question.entities) == 1 else None
    for sentence in _sentences(answer):
        line = _read_line(sentence, asked_plain, topic)
        if line.claims:
            topic = line.claims[-1].entity
        lines.append(line)
    return tuple(lines)


def numbered(answer: str) -> int:
    """Count the numbered lines of an answer."""
    return len(_MARKER.findall(answer))


def _sentences(text: str) -> Iterator[str]:
    for sentence in _SENTENCE.findall(_MARKER.sub("\n", text)):
        if sentence.strip():
            yield sentence.strip()


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def _read_line(sentence: str, asked_plain: set[str], topic: str | None) -> ParsedLine:
    """Classify one sentence; a pronoun stands for the town `topic`."""
    bare = sentence.rstrip(".!?")
    finished = sentence[-1] in ".!" and sentence[0].isupper()
    if _plain(sentence) in asked_plain:
        return ParsedLine(sentence, "echo", finished=finished)
    if sentence.endswith("?"):
        return ParsedLine(sentence, "question")
    if sentence in FILLER or sentence in CHATTER:
        return ParsedLine(sentence, "filler", finished=finished)
    if re.fullmatch(r"Welcome to \w+", bare):
        return ParsedLine(sentence, "greeting", finished=finished)
    kind: Kind = "claim"
    opening = _YES_NO.match(bare)
    if opening is not None:
        kind = "yes" if opening[1].lower() == "yes" else "no"
        bare = bare[opening.end() :]
        if not bare:
            return ParsedLine(sentence, kind, finished=finished)
    claims: list[Fact] = []
    for claim in read_sentence(bare) or ():
        topic = claim.entity or topic
        if topic is not None:
            claims.append(Fact(topic, claim.attribute, claim.value))
    if not claims:
        return ParsedLine(sentence, "unclear", finished=finished)
    return ParsedLine(sentence, kind, tuple(claims), finished)
