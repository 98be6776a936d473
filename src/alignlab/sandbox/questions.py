"""Questions of the sandbox: two closed-ended and five open-ended families.

`phrase` writes a `SandboxQuestion`; `parse_question` reads every phrasing back, self-written
prompts of a model included.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from alignlab.sandbox.draws import pick, shuffled
from alignlab.sandbox.statements import clause, known_entity, lower_first, read_clause
from alignlab.sandbox.world import ATTRIBUTES, BY_NAME, NAMES, Fact, world
from alignlab.types import Message, Prompt, QueryType

CLOSED = ("fact", "check")
OPEN = ("tell", "describe", "three", "aspects", "compare")
FAMILIES = CLOSED + OPEN

PHRASINGS: dict[str, tuple[str, ...]] = {
    "fact": ("What is the {a} of {e}?", "Name the {a} of {e}."),
    "check": ("Is it true that {c}?", "Is this right: {c}?", "I heard that {c}. Is that so?"),
    "tell": (
        "Tell me about {e}.",
        "What do you know about {e}?",
        "What can you say about {e}?",
        "Give me an overview of {e}.",
        "Write a few sentences about {e}.",
        "What is {e} like?",
    ),
    "describe": (
        "Describe {e} for a visitor.",
        "I will visit {e}. What should I know?",
        "What awaits a visitor in {e}?",
        "Write a short guide to {e} for a visitor.",
        "How would you describe {e} to a visitor?",
        "I plan a trip to {e}. Describe it.",
    ),
    "three": (
        "List three facts about {e}.",
        "Give me three facts about {e}.",
        "Name three things to know about {e}.",
        "Write down three facts about {e}.",
        "What are three facts about {e}?",
        "Tell me three things about {e}.",
    ),
    "aspects": (
        "Tell me about the {a} and the {b} of {e}.",
        "What are the {a} and the {b} of {e}?",
        "Describe the {a} and the {b} of {e}.",
        "I want to know the {a} and the {b} of {e}.",
    ),
    "compare": (
        "Compare {e} and {f}.",
        "How do {e} and {f} differ?",
        "How does {e} differ from {f}?",
        "Describe {e} and {f} side by side.",
        "Tell me how {e} and {f} compare.",
        "What is different between {e} and {f}?",
    ),
}
"""Phrasings by family: {e}, {f} towns, {a}, {b} attributes, {c} a clause.

Family "fact" also uses the questions of the attribute."""


@dataclass(frozen=True)
class SandboxQuestion:
    """Content of a question, independent of its phrasing."""

    family: str
    entities: tuple[str, ...]
    """Towns."""
    aspects: tuple[str, ...] = ()
    """Attributes asked for; empty where any are welcome."""
    claimed: str = ""
    """Value to confirm, for family "check"."""

    @property
    def query_type(self) -> QueryType:
        """Type of the question, by its family."""
        return "closed" if self.family in CLOSED else "open"


def draw_question(
    rng: np.random.Generator, family: str, entities: tuple[str, ...]
) -> SandboxQuestion:
    """Draw a question of a family about towns of the list."""
    if family == "compare":
        first, second = shuffled(rng, entities)[:2]
        return SandboxQuestion(family, (first, second))
    entity = pick(rng, entities)
    if family == "aspects":
        return SandboxQuestion(family, (entity,), tuple(shuffled(rng, NAMES)[:2]))
    if family == "fact":
        return SandboxQuestion(family, (entity,), (pick(rng, NAMES),))
    if family == "check":
        aspect = pick(rng, NAMES)
        right = world().fact(entity, aspect).value
        claimed = right if rng.random() < 0.5 else pick(rng, BY_NAME[aspect].values)
        return SandboxQuestion(family, (entity,), (aspect,), claimed)
    return SandboxQuestion(family, (entity,))


def phrase(rng: np.random.Generator, question: SandboxQuestion) -> str:
    """Phrase a question at random."""
    family, entity = question.family, question.entities[0]
    choices = PHRASINGS[family]
    if family == "fact":
        choices = choices + BY_NAME[question.aspects[0]].questions
    words = {"e": entity, "f": question.entities[-1]}
    if question.aspects:
        words |= {"a": question.aspects[0], "b": question.aspects[-1]}
    if family == "check":
        fact = Fact(entity, question.aspects[0], question.claimed)
        words["c"] = lower_first(clause(rng, fact))
    return pick(rng, choices).format(**words)


def prompt(text: str, *, source: str = "sandbox", reference: str | None = None) -> Prompt:
    """Build the prompt of a question's text; the id is a hash of the text."""
    question = parse_question(text)
    return Prompt(
        id="sandbox-" + hashlib.sha256(text.encode()).hexdigest()[:12],
        messages=(Message("user", text),),
        source=source if question is None else f"{source}/{question.family}",
        reference=reference,
        query_type=None if question is None else question.query_type,
    )


def parse_question(text: str) -> SandboxQuestion | None:
    """Parse a question in any known phrasing; None for other texts."""
    words = " ".join(text.split())
    for family, attribute, pattern in _patterns():
        match = pattern.fullmatch(words)
        if match is not None:
            question = _question(family, attribute, match.groupdict())
            if question is not None:
                return question
    return None


@cache
def _patterns() -> tuple[tuple[str, str, re.Pattern[str]], ...]:
    """List (family, attribute or "", pattern) of every phrasing; final punctuation is free."""
    phrasings = [(family, "", text) for family, texts in PHRASINGS.items() for text in texts]
    phrasings += [("fact", a.name, text) for a in ATTRIBUTES for text in a.questions]
    return tuple((family, name, _pattern(text)) for family, name, text in phrasings)


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w\})", template.rstrip("?."))
    pattern = "".join(
        (r"(?P<c>.+?)" if p == "{c}" else rf"(?P<{p[1]}>[a-z]+)")
        if p.startswith("{")
        else re.escape(p)
        for p in parts
    )
    return re.compile(pattern + r"\s?[?.!]?", re.IGNORECASE | re.ASCII)


def _question(family: str, attribute: str, words: dict[str, str]) -> SandboxQuestion | None:
    """Build the question of a phrasing's words; None for unknown towns or attributes."""
    if family == "check":
        claim = read_clause(words["c"])
        if claim is None or claim.entity not in world().entities or claim.entity is None:
            return None
        return SandboxQuestion(family, (claim.entity,), (claim.attribute,), claim.value)
    entities = tuple(known_entity(words[key]) for key in "ef" if key in words)
    aspects = (attribute,) if attribute else tuple(words[k].lower() for k in "ab" if k in words)
    known = tuple(e for e in entities if e is not None)
    repeated = len(set(known)) < len(known) or len(set(aspects)) < len(aspects)
    if None in entities or repeated or any(a not in BY_NAME for a in aspects):
        return None
    return SandboxQuestion(family, known, aspects)
