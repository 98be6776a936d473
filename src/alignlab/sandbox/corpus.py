"""Data source of the sandbox: seed data, training prompts and tests.

Alignment towns and test towns are disjoint, and all prompts differ in text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from alignlab.errors import BadInput
from alignlab.registry import register
from alignlab.sandbox.answers import LEVELS, ideal_answer, write_answer
from alignlab.sandbox.draws import pick
from alignlab.sandbox.oracle import assess
from alignlab.sandbox.questions import FAMILIES, draw_question, parse_question, phrase, prompt
from alignlab.sandbox.world import world
from alignlab.seeds import generator
from alignlab.specs import read_options
from alignlab.types import (
    Corpus,
    Count,
    Demonstration,
    PreferenceGroup,
    Prompt,
    Response,
    SampledBy,
)

WRITERS = ("strong", "weak", "human", "web", "web")
"""Noise levels of ranked responses; one is drawn per response."""
ATTEMPTS = 200
"""Maximum number of repeated questions in a row before a family counts as exhausted."""


@dataclass(frozen=True)
class SandboxData:
    """Seed and sizes of the sandbox corpus."""

    seed: int = 0
    """Seed of all prompts and answers."""
    ift: int = 300
    """Number of demonstrations, at the human level of noise."""
    groups: int = 600
    """Number of ranked groups with responses of mixed quality."""
    k: int = 4
    """Responses per group."""
    rank_noise: float = 0.7
    """Standard deviation of the ranking error, in points."""
    prompts: int = 1200
    """Number of prompts for sampling feedback data."""
    test: int = 400
    """Number of test prompts, balanced over families."""
    test_groups: int = 150
    """Number of ranked groups about test towns, for measuring judges."""


@register("data", "sandbox")
def make_corpus(rest: str) -> Corpus:
    """Build the corpus from its spec, such as "", "?ift=300&seed=1" or "ift=300&seed=1".

    Raises:
        BadInput: an option is unknown, or the world has too few questions.
    """
    return build_corpus(read_options("?" + rest.lstrip("?"), SandboxData).options)


@lru_cache(maxsize=2)  # a study's plan asks for it first, and then the study
def build_corpus(options: SandboxData) -> Corpus:
    """Draw the corpus, each part balanced over the families of questions."""
    if options.k < 2:
        raise BadInput(f"sandbox k: expected at least 2 responses a group, found {options.k}")
    train = _Questions(options.seed, "alignment", world().alignment)
    test = _Questions(options.seed, "test", world().test)
    demonstrations = tuple(_demonstration(options, p) for p in train.take(options.ift))
    groups = tuple(_group(options, p) for p in train.take(options.groups))
    pool = train.take(options.prompts)
    test_prompts = test.take(options.test)
    test_groups = tuple(_group(options, p) for p in test.take(options.test_groups))
    parts = {
        "ift": demonstrations,
        "ranked groups": groups,
        "prompts": pool,
        "test prompts": test_prompts,
        "test groups": test_groups,
    }
    return Corpus(
        name="sandbox",
        demonstrations=demonstrations,
        groups=groups,
        prompts=pool,
        test_prompts=test_prompts,
        test_groups=test_groups,
        counts=tuple(Count("data", what, len(part)) for what, part in parts.items()),
        reserved=world().test,
    )


class _Questions:
    """Generator of distinct prompts about towns."""

    def __init__(self, seed: int, split: str, towns: tuple[str, ...]) -> None:
        self._rng = generator(seed, "questions", split)
        self._towns = towns
        self._seen: set[str] = set()

    def take(self, count: int) -> tuple[Prompt, ...]:
        """Draw `count` prompts, families in turn."""
        return tuple(self._next(FAMILIES[i % len(FAMILIES)]) for i in range(count))

    def _next(self, family: str) -> Prompt:
        for _ in range(ATTEMPTS):
            question = draw_question(self._rng, family, self._towns)
            text = phrase(self._rng, question)
            if text not in self._seen:
                self._seen.add(text)
                reference = ideal_answer(generator("reference", text), text, question)
                return prompt(text, reference=reference)
        raise BadInput(
            f"sandbox data: expected at most {len(self._seen)} prompts or so, found a request for "
            f"more questions of family {family!r} than there are"
        )


def _answer(rng: np.random.Generator, asked: Prompt, writer: str, index: int) -> Response:
    question = parse_question(asked.text)
    assert question is not None
    text = write_answer(rng, asked.text, question, LEVELS[writer])
    return Response(f"{asked.id}/{writer}-{index}", asked.id, text, SampledBy(f"sandbox:{writer}"))


def _demonstration(options: SandboxData, asked: Prompt) -> Demonstration:
    rng = generator(options.seed, "ift", asked.id)
    return Demonstration(asked, _answer(rng, asked, "human", 0))


def _group(options: SandboxData, asked: Prompt) -> PreferenceGroup:
    """Draw distinct responses, ranked by the oracle's score plus a Gaussian error."""
    rng = generator(options.seed, "group", asked.id)
    question = parse_question(asked.text)
    assert question is not None
    responses: dict[str, Response] = {}
    index = 0
    while len(responses) < options.k:
        drawn = _answer(rng, asked, pick(rng, WRITERS), index)
        responses.setdefault(drawn.text, drawn)
        index += 1
    seen = [
        assess(asked.text, question, text).score + rng.normal(0.0, options.rank_noise)
        for text in responses
    ]
    order = sorted(range(options.k), key=lambda i: -seen[i])
    ranked = list(responses.values())
    return PreferenceGroup(
        asked,
        tuple(ranked[i] for i in order),
        tuple(round(min(5.0, max(0.0, seen[i])), 1) for i in order),
        "sandbox:human",
    )
