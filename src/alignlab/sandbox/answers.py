"""Write answers to sandbox questions at a level of noise, from ideal to web text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alignlab.sandbox.draws import happens, pick, shuffled
from alignlab.sandbox.oracle import VISITOR
from alignlab.sandbox.questions import SandboxQuestion
from alignlab.sandbox.reading import CHATTER, FILLER
from alignlab.sandbox.statements import clause, joined, lower_first
from alignlab.sandbox.world import BY_NAME, NAMES, Fact, world

Believe = Callable[[Fact], Fact]


@dataclass(frozen=True)
class Noise:
    """Probabilities of faults in an answer."""

    drop: float = 0.0
    """Probability per answer of leaving out half or more of the facts; a single fact is replaced
    by another, with half the probability."""
    false: float = 0.0
    """Probability per fact of a wrong value."""
    off_topic: float = 0.0
    """Probability per answer of a fact about another town or of chatter."""
    repeat: float = 0.0
    """Probability per answer of a repeated fact."""
    filler: float = 0.0
    """Probability per answer of a sentence without content."""
    echo: float = 0.0
    """Probability per answer of repeating the question first."""
    self_question: float = 0.0
    """Probability per answer of ending in a question."""
    cut: float = 0.0
    """Probability per answer of breaking off within the last sentence."""


LEVELS: dict[str, Noise] = {
    "ideal": Noise(),
    "strong": Noise(0.02, 0.01, 0.02, 0.01, 0.02, 0.01, 0.01, 0.0),
    "weak": Noise(0.24, 0.07, 0.14, 0.10, 0.18, 0.06, 0.10, 0.05),
    "human": Noise(0.28, 0.08, 0.18, 0.14, 0.24, 0.09, 0.15, 0.07),
    "web": Noise(0.36, 0.10, 0.26, 0.20, 0.28, 0.16, 0.22, 0.12),
}
"""Noise by level: teachers (strong, weak), writers of seed data (human), pretraining text (web)."""


def write_answer(
    rng: np.random.Generator,
    asked: str,
    question: SandboxQuestion,
    noise: Noise,
    believe: Believe | None = None,
) -> str:
    """Write an answer to a question.

    Args:
        rng: generator of all draws.
        asked: text of the question.
        question: parsed question.
        noise: probabilities of faults.
        believe: maps a true fact to the writer's belief; identity by default.
    """
    units = _plan(rng, question)
    if happens(rng, noise.drop / (2 if len(units) == 1 else 1)):
        units = _dropped(rng, units)
    stated = [tuple(_stated(rng, f, noise, believe) for f in unit) for unit in units]
    if happens(rng, noise.repeat):
        stated.append(pick(rng, stated))
    if happens(rng, noise.off_topic) and happens(rng, 0.6):
        other = pick(rng, world().neighbours(question.entities[0]))
        aside = _stated(rng, world().fact(other, pick(rng, NAMES)), noise, believe)
        stated.insert(int(rng.integers(len(stated) + 1)), (aside,))
    sentences = _sentences(rng, question, stated)
    if question.family == "describe" and happens(rng, 0.5):
        sentences.insert(0, f"Welcome to {question.entities[0]}.")
    if question.family == "three":
        sentences = [f"{i}. {text}" for i, text in enumerate(sentences, 1)]
    return _framed(rng, asked, question, sentences, noise)


def ideal_answer(rng: np.random.Generator, asked: str, question: SandboxQuestion) -> str:
    """Write an answer without faults."""
    return write_answer(rng, asked, question, LEVELS["ideal"])


def _plan(rng: np.random.Generator, question: SandboxQuestion) -> list[tuple[Fact, ...]]:
    """Choose the true facts of a complete answer; each tuple becomes one sentence."""
    family, known = question.family, world()
    if family == "compare":
        aspects = shuffled(rng, NAMES)[:2]
        return [tuple(known.fact(e, a) for e in question.entities) for a in aspects]
    aspects = list(question.aspects)
    if family == "tell":
        aspects = shuffled(rng, NAMES)[: 4 + int(rng.integers(2))]
    elif family == "describe":
        others = [name for name in NAMES if name not in VISITOR]
        aspects = [*VISITOR, *shuffled(rng, others)[: int(rng.integers(2))]]
    elif family == "three":
        aspects = shuffled(rng, NAMES)[:3]
    return [(known.fact(question.entities[0], aspect),) for aspect in aspects]


def _dropped(rng: np.random.Generator, units: list[tuple[Fact, ...]]) -> list[tuple[Fact, ...]]:
    """Drop half or more of a plan; a single fact is replaced by another."""
    if len(units) == 1:
        wrong = [name for name in NAMES if name != units[0][0].attribute]
        return [tuple(world().fact(f.entity, pick(rng, wrong)) for f in units[0])]
    return units[: 1 + int(rng.integers((len(units) + 1) // 2))]


def _stated(rng: np.random.Generator, fact: Fact, noise: Noise, believe: Believe | None) -> Fact:
    """Return the fact as the writer states it."""
    if happens(rng, noise.false):
        return wrong_fact(rng, fact)
    return fact if believe is None else believe(fact)


def wrong_fact(rng: np.random.Generator, fact: Fact) -> Fact:
    """Draw a claim with another value of the attribute."""
    others = [v for v in BY_NAME[fact.attribute].values if v != fact.value]
    return Fact(fact.entity, fact.attribute, pick(rng, others))


def _sentences(
    rng: np.random.Generator, question: SandboxQuestion, units: list[tuple[Fact, ...]]
) -> list[str]:
    """Write the facts as sentences; a pronoun stands for the town named just before."""
    sentences: list[str] = []
    topic = ""
    for unit in units:
        clauses = []
        for fact in unit:
            pronoun = fact.entity == topic and len(unit) == 1 and happens(rng, 0.5)
            clauses.append(clause(rng, fact, pronoun=pronoun))
            topic = fact.entity
        text = clauses[0]
        if len(clauses) == 2:
            text = joined(
                clauses[0], clauses[1], "and" if unit[0].value == unit[1].value else "while"
            )
        sentences.append(text + ".")
    if question.family == "check":
        stated = units[0][0].value
        word = "Yes" if stated == question.claimed else "No"
        sentences[0] = f"{word}, {lower_first(sentences[0])}"
    return sentences


def _framed(
    rng: np.random.Generator,
    asked: str,
    question: SandboxQuestion,
    sentences: list[str],
    noise: Noise,
) -> str:
    """Join the sentences to an answer, with echo, filler, chatter, question and cut by noise."""
    if happens(rng, noise.echo):
        sentences = [asked, *sentences]
    if happens(rng, noise.filler):
        place = 0 if happens(rng, 0.5) else len(sentences)
        sentences.insert(place, pick(rng, FILLER))
    if happens(rng, noise.off_topic) and happens(rng, 0.4):
        sentences.append(pick(rng, CHATTER))
    if happens(rng, noise.self_question):
        asks = pick(rng, BY_NAME[pick(rng, NAMES)].questions)
        sentences.append(asks.format(e=question.entities[0]))
    text = ("\n" if question.family == "three" else " ").join(sentences)
    if happens(rng, noise.cut):
        words = text.split(" ")
        text = " ".join(words[: max(1, len(words) - 1 - int(rng.integers(3)))])
    return text
