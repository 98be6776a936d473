"""Reads an answer, whoever wrote it, into lines of known kinds: claims, echoes, chatter, noise."""

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
"""Sentences that say nothing."""
CHATTER = (
    "The weather is nice today.",
    "My cousin has a new bicycle.",
    "Shoes should be dry in winter.",
    "I like to sing in the morning.",
    "Ships are slower than trains.",
)
"""Sentences about something else."""

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
    """What a line of kind "claim", "yes" or "no" states."""
    finished: bool = True
    """Starts with a capital letter and ends with a full stop."""


def read_answer(question: SandboxQuestion, asked: str, answer: str) -> tuple[ParsedLine, ...]:
    """Read an answer to a question that was asked in the given words."""
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
    """How many lines of an answer are numbered."""
    return len(_MARKER.findall(answer))


def _sentences(text: str) -> Iterator[str]:
    for found in _SENTENCE.finditer(_MARKER.sub("\n", text)):
        if found.group().strip():
            yield found.group().strip()


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def _read_line(sentence: str, asked_plain: set[str], topic: str | None) -> ParsedLine:
    """Classify one sentence; `topic` is the town that a pronoun means."""
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
