"""Refine an answer by the letter of a critique, right or wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from alignlab.sandbox.answers import Noise, write_answer, wrong_fact
from alignlab.sandbox.correcting import MARK, fresh_sentence, mended_sentence, unstated
from alignlab.sandbox.draws import pick, shuffled
from alignlab.sandbox.oracle import LABELS, VISITOR, assess
from alignlab.sandbox.questions import SandboxQuestion, parse_question
from alignlab.sandbox.sentences import Sentence, valued_sentences
from alignlab.sandbox.statements import clause
from alignlab.sandbox.world import NAMES, Fact, world

SUBJECT, LITTLE, FALSE, UNCLEAR, INCOMPLETE = LABELS
_MENDS = {
    FALSE: ("false",),
    UNCLEAR: ("echo", "unclear", "unfinished", "repeated"),
    INCOMPLETE: ("off-topic", "filler", "question"),
}
"""Fault of an answer -> faults of its sentences that are mended for it."""


def obeyed(
    rng: np.random.Generator, asked: str, answer: str, named: Collection[str], noise: Noise
) -> str:
    """Mend the named faults that an answer has, and spoil it by those that it lacks.

    A false claim is stated truly, an unclear or repeated sentence replaced or dropped, what is
    missing is added and what was not asked for left out. An answer to another subject, or one that
    cannot be mended sentence by sentence, is written anew. A named fault that the answer lacks
    costs it a point: a true claim is denied, a fact is repeated, or something is added that nobody
    asked for.

    Args:
        rng: generator of all draws.
        asked: text of a question of the sandbox.
        answer: text of the answer.
        named: labels of faults, of `LABELS`.
        noise: probabilities of faults in what is written anew.
    """
    question = parse_question(asked)
    assert question is not None
    if not named:
        return answer
    real = [label for label in assess(asked, question, answer).labels if label in named]
    if SUBJECT in real:
        return write_answer(rng, asked, question, noise)
    found = valued_sentences(asked, question, answer)
    kept = list(_mended(rng, question, found, real))
    for label in (LITTLE, INCOMPLETE):
        if label in real:
            kept = _completed(rng, asked, question, kept, label)
    if _still(asked, question, kept, real):
        kept = [MARK.sub("", line) for line in _anew(rng, asked, question, noise)]
    for label in named:
        if label not in real:
            kept = _spoilt(rng, question, kept, label)
    return _joined(question, kept)


def _mended(
    rng: np.random.Generator,
    question: SandboxQuestion,
    found: list[Sentence],
    real: Collection[str],
) -> Iterator[str]:
    """Yield the sentences of an answer, those with a named fault mended or left out."""
    spare = unstated(rng, question, found)
    wanted = {fault for label in real for fault in _MENDS.get(label, ())}
    for one in found:
        text = MARK.sub("", one.text)
        if one.fault in ("echo", "repeated") and one.fault in wanted:
            text = ""
        elif one.fault in wanted:
            text = mended_sentence(rng, question, one, spare)
        if text:
            yield text


def _completed(
    rng: np.random.Generator,
    asked: str,
    question: SandboxQuestion,
    kept: list[str],
    label: str,
) -> list[str]:
    """Add facts that were asked for until the fault of that label is gone, or no fact is left."""
    needed = VISITOR if question.family == "describe" else question.aspects
    for fact in _missing_facts(rng, asked, question, kept, needed):
        if not _still(asked, question, kept, (label,)):
            break
        kept = [*kept, fresh_sentence(rng, question, iter([fact]))]
    return kept


def _missing_facts(
    rng: np.random.Generator,
    asked: str,
    question: SandboxQuestion,
    kept: list[str],
    needed: Collection[str],
) -> list[Fact]:
    """Return facts that are not stated: needed attributes first, both towns of one in a row."""
    found = valued_sentences(asked, question, _joined(question, kept))
    facts = list(unstated(rng, question, found))
    order = {name: place for place, name in enumerate(shuffled(rng, NAMES))}
    alone = {f.attribute for f in facts if sum(g.attribute == f.attribute for g in facts) == 1}
    return sorted(
        facts,
        key=lambda f: (
            f.attribute not in needed,
            len(question.entities) > 1 and f.attribute not in alone,
            order[f.attribute],
        ),
    )


def _spoilt(
    rng: np.random.Generator, question: SandboxQuestion, kept: list[str], label: str
) -> list[str]:
    """Mend a fault that an answer does not have, which costs it a point."""
    own = [world().fact(question.entities[0], name) for name in question.aspects or NAMES]
    claimed = [f for f in own if any(f.entity in text and f.value in text for text in kept)]
    fact = pick(rng, claimed or own)
    if label == FALSE:
        wrong = clause(rng, wrong_fact(rng, fact)) + "."
        return [*(text for text in kept if fact.value not in text), wrong]
    if label == UNCLEAR:
        return [*kept, clause(rng, fact) + ".", clause(rng, fact) + "."]
    known = world().neighbours(question.entities[0])
    other = pick(rng, [town for town in known if town not in question.entities])
    return [*kept, clause(rng, world().fact(other, pick(rng, NAMES))) + "."]


def _still(asked: str, question: SandboxQuestion, kept: list[str], labels: Collection[str]) -> bool:
    """Return whether an answer of these sentences has a fault of one of the labels."""
    return any(label in labels for label in assess(asked, question, _joined(question, kept)).labels)


def _anew(
    rng: np.random.Generator, asked: str, question: SandboxQuestion, noise: Noise
) -> list[str]:
    text = write_answer(rng, asked, question, noise)
    return text.splitlines() if question.family == "three" else [text]


def _joined(question: SandboxQuestion, kept: list[str]) -> str:
    if question.family == "three":
        return "\n".join(f"{n}. {text}" for n, text in enumerate(kept, 1))
    return " ".join(kept)
