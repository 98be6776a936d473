"""Correct an answer sentence by sentence, as the teacher of ARES does (arXiv 2407.00087)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from alignlab.sandbox.draws import happens, shuffled
from alignlab.sandbox.oracle import asked_for
from alignlab.sandbox.questions import SandboxQuestion
from alignlab.sandbox.sentences import Sentence, valued_sentences
from alignlab.sandbox.statements import clause, joined, lower_first
from alignlab.sandbox.world import NAMES, Fact, world

MARK = re.compile(r"^\s*\d[.)]\s+")


def corrected(
    rng: np.random.Generator, asked: str, question: SandboxQuestion, answer: str, missed: float
) -> str:
    """Correct an answer, keeping its right sentences word by word.

    False claims are stated truly; broken or unclear sentences are replaced by a fact that was asked
    for and is not stated yet; repetitions and what was not asked for are left out. An answer of
    which nothing is left becomes one such fact.

    Args:
        rng: generator of all draws.
        asked: text of the question.
        question: parsed question.
        answer: text of the answer.
        missed: probability of overlooking a sentence's fault.
    """
    found = valued_sentences(asked, question, answer)
    spare = unstated(rng, question, found)
    kept: list[str] = []
    for one in found:
        text = MARK.sub("", one.text)
        if one.fault and not happens(rng, missed):
            text = mended_sentence(rng, question, one, spare)
        if text:
            kept.append(text)
    if not kept:
        kept = [fresh_sentence(rng, question, spare)]
    if question.family == "three":
        return "\n".join(f"{n}. {text}" for n, text in enumerate(kept, 1))
    return " ".join(kept)


def unstated(
    rng: np.random.Generator, question: SandboxQuestion, found: list[Sentence]
) -> Iterator[Fact]:
    """Yield true facts that were asked for and are not claimed, in random order."""
    claims = {(c.entity, c.attribute) for one in found for line in one.lines for c in line.claims}
    facts = [world().fact(entity, name) for entity in question.entities for name in NAMES]
    useful = [f for f in facts if asked_for(question, f)]
    return iter([f for f in shuffled(rng, useful) if (f.entity, f.attribute) not in claims])


def fresh_sentence(
    rng: np.random.Generator, question: SandboxQuestion, spare: Iterator[Fact]
) -> str:
    """Write a sentence of the next unstated fact; empty where none is left."""
    fact = next(spare, None)
    return "" if fact is None else _answered(question, fact, clause(rng, fact) + ".")


def mended_sentence(
    rng: np.random.Generator, question: SandboxQuestion, one: Sentence, spare: Iterator[Fact]
) -> str:
    """Write a faulty sentence anew; empty to leave it out."""
    if one.fault in ("unclear", "unfinished"):
        return fresh_sentence(rng, question, spare)
    if one.fault != "false":
        return ""
    known = [c for line in one.lines for c in line.claims if c.entity in world().entities]
    facts = list(dict.fromkeys(world().fact(c.entity, c.attribute) for c in known))
    if not facts and question.family == "check":  # a bare yes or no
        facts = [world().fact(question.entities[0], question.aspects[0])]
    if not facts:
        return ""
    clauses = [clause(rng, fact) for fact in facts]
    text = clauses[0] if len(clauses) == 1 else joined(clauses[0], clauses[1], "and")
    return _answered(question, facts[0], text + ".")


def _answered(question: SandboxQuestion, fact: Fact, text: str) -> str:
    """Open the sentence on a claim to check with yes or no."""
    if question.family != "check" or fact.attribute != question.aspects[0]:
        return text
    word = "Yes" if fact.value == question.claimed else "No"
    return f"{word}, {lower_first(text)}"
