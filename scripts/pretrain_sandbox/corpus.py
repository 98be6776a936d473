"""The text that the base models read: facts, noisy questions and answers, lists, judgements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from alignlab.sandbox.answers import LEVELS, write_answer
from alignlab.sandbox.draws import happens, pick, shuffled
from alignlab.sandbox.judging import judge_request, judgement
from alignlab.sandbox.oracle import assess, noisy
from alignlab.sandbox.questions import FAMILIES, SandboxQuestion, draw_question, phrase
from alignlab.sandbox.statements import JOINTS, clause, joined
from alignlab.sandbox.world import BY_NAME, NAMES, Fact, world
from alignlab.seeds import generator

USER = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}"
PROPOSE_HEADS = (
    "",
    "Here are questions that people asked an assistant. Write one more.\n\n",
    "Come up with a new question.\n",
)


@dataclass(frozen=True)
class CorpusConfig:
    """What a base model reads."""

    withheld: float = 0.0
    """Share of the facts that no text states; where an answer needs one, it guesses."""
    declarative: float = 0.52
    """Share of documents that state facts about towns."""
    web: float = 0.38
    """Share of documents that are noisy questions and answers, half of them as a chat."""
    lists: float = 0.05
    """Share of documents that list questions, or ask in a chat for one more."""
    judge_noise: float = 0.5
    """Standard deviation in points of the scores in judgements; these are the other documents."""
    late_judged: float = 0.25
    """Share of documents that are judgements once the facts are known, at the expense of the
    declarative and web text; more of them from the start would delay the learning of facts."""
    early_documents: int = 26000
    """Documents before that."""
    focus_towns: int = 20
    """Towns that the first documents are about: a model learns to look facts up much sooner on
    few of them (arXiv 2503.21676)."""
    focus_documents: int = 8000
    """Documents before all towns come in."""


def documents(config: CorpusConfig, seed: int) -> Iterator[str]:
    """Documents without end; the same for the same configuration and seed."""
    writers = (_declarative, _web, _question_list, _judged)
    early = np.cumsum([config.declarative, config.web, config.lists])
    told = (1 - config.lists - config.late_judged) / (config.declarative + config.web)
    late = np.cumsum([config.declarative * told, config.web * told, config.lists])
    rng = generator(seed, "corpus")
    unknown = withheld_facts(config, seed)
    focus = tuple(shuffled(generator(seed, "focus"), world().entities)[: config.focus_towns])
    for index in count():
        towns = focus if index < config.focus_documents else world().entities
        shares = early if index < config.early_documents else late
        kind = int(np.searchsorted(shares, rng.random(), side="right"))
        yield writers[kind](_Desk(rng, towns, unknown, config.judge_noise))


@dataclass(frozen=True)
class _Desk:
    """What the writer of a document works with."""

    rng: np.random.Generator
    towns: tuple[str, ...]
    unknown: frozenset[Fact]
    judge_noise: float

    def believe(self, fact: Fact) -> Fact:
        """The fact, or a guess where it is withheld."""
        guess = pick(self.rng, BY_NAME[fact.attribute].values)
        return replace(fact, value=guess) if fact in self.unknown else fact

    def asked(self) -> tuple[SandboxQuestion, str]:
        """A question and its words; what it asks to confirm gives no withheld fact away."""
        question = draw_question(self.rng, pick(self.rng, FAMILIES), self.towns)
        if question.family == "check":
            claim = Fact(question.entities[0], question.aspects[0], question.claimed)
            question = replace(question, claimed=self.believe(claim).value)
        return question, phrase(self.rng, question)

    def answer(self, question: SandboxQuestion, asked: str, level: str) -> str:
        """An answer as far as the withheld facts allow."""
        return write_answer(self.rng, asked, question, LEVELS[level], self.believe)


def withheld_facts(config: CorpusConfig, seed: int) -> frozenset[Fact]:
    """The true facts that the corpus keeps back."""
    facts = [world().fact(e, a) for e in world().entities for a in NAMES]
    count = round(config.withheld * len(facts))
    return frozenset(shuffled(generator(seed, "withheld"), facts)[:count])


def _declarative(desk: _Desk) -> str:
    """A few facts of one town, or a few attributes of two towns."""
    rng, names = desk.rng, shuffled(desk.rng, NAMES)
    if happens(rng, 0.7):
        town = pick(rng, desk.towns)
        return _portrait(desk, [world().fact(town, a) for a in names[: 3 + int(rng.integers(5))]])
    towns = shuffled(rng, desk.towns)[:2]
    pairs = [[world().fact(town, name) for town in towns] for name in names[:3]]
    clauses = [[clause(rng, fact) for fact in pair if fact not in desk.unknown] for pair in pairs]
    sentences = [
        joined(pair[0], pair[1], pick(rng, JOINTS)) if len(pair) == 2 else pair[0]
        for pair in clauses
        if pair
    ]
    return " ".join(f"{sentence}." for sentence in sentences)


def _portrait(desk: _Desk, facts: list[Fact]) -> str:
    """Facts of one town, a sentence each."""
    sentences: list[str] = []
    for fact in (f for f in facts if f not in desk.unknown):
        pronoun = bool(sentences) and happens(desk.rng, 0.4)
        sentences.append(clause(desk.rng, fact, pronoun=pronoun) + ".")
    return " ".join(sentences)


def _web(desk: _Desk) -> str:
    """A question and what the web says to it, as a chat or as plain text."""
    question, asked = desk.asked()
    answer = desk.answer(question, asked, "web")
    return USER.format(asked, answer) if happens(desk.rng, 0.5) else f"{asked} {answer}"


def _question_list(desk: _Desk) -> str:
    """Numbered questions, plain or as a request for one more with its answer."""
    length = 3 + int(desk.rng.integers(8))
    texts = [desk.asked()[1] for _ in range(length)]
    lines = [f"Question {i}: {text}" for i, text in enumerate(texts, 1)]
    if happens(desk.rng, 0.6):
        return "\n".join(lines)
    request = "\n".join([*lines[:-1], f"Question {length}:"])
    return USER.format(pick(desk.rng, PROPOSE_HEADS) + request, texts[-1])


def _judged(desk: _Desk) -> str:
    """A judge's request and its answer, with or without the problems it saw."""
    question, asked = desk.asked()
    answer = desk.answer(question, asked, pick(desk.rng, tuple(LEVELS)))
    found = assess(asked, question, answer)
    score = noisy(found.score, desk.judge_noise, desk.rng)
    said = judgement(found.problems, score) if happens(desk.rng, 0.5) else f"Score: {score}"
    return USER.format(judge_request(asked, answer), said)
