"""Text statistics: length, repetition and emptiness of a model's answers; no judge needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alignlab.evaluation.metrics.intervals import Floats, bootstrap_mean
from alignlab.evaluation.metrics.length import lengths
from alignlab.evaluation.metrics.repetition import distinct, ngram_repetition
from alignlab.evaluation.metrics.self_bleu import self_bleu
from alignlab.evaluation.result_rows import Subject
from alignlab.registry import register
from alignlab.text import words
from alignlab.types import EvalResult, Prompt, Response

NAME = "text"
REPETITION_N = 4
"""Repetition is measured on 4-grams (arXiv 2402.03469)."""
DISTINCT_N = 2


@register("benchmark", NAME)
@dataclass(frozen=True)
class TextStatistics:
    """Length in tokens and words, 4-gram repetition, distinct bigrams, empty and cut answers.

    Where a model answers a prompt several times, also Self-BLEU: how alike its answers are.
    """

    test_prompts: tuple[Prompt, ...]
    """Prompts that the models answer."""
    name: str = NAME

    def prompts(self) -> list[Prompt]:
        return list(self.test_prompts)

    def score(self, responses: Mapping[str, Sequence[Response]], seed: int) -> list[EvalResult]:
        """Measure every model's answers."""
        return [
            row
            for model, some in responses.items()
            for row in (
                *text_rows(Subject(model, self.name), some, seed=seed),
                *self_bleu_rows(Subject(model, self.name), some, seed=seed),
            )
        ]


def text_rows(
    subject: Subject, responses: Sequence[Response], *, seed: int = 0
) -> list[EvalResult]:
    """Means over responses with intervals over prompts; distinct-2 over all texts together."""
    measured = lengths(responses)
    tokens = [words(r.text) for r in responses]
    means: dict[str, Floats] = {
        "tokens": measured.tokens_N.astype(np.float64),
        "words": measured.words_N.astype(np.float64),
        "repetition_4": np.array([ngram_repetition(t, REPETITION_N) for t in tokens]),
        "empty_share": measured.empty_N.astype(np.float64),
        "cut_share": np.array([float(r.finish == "length") for r in responses]),
    }
    prompts = [r.prompt_id for r in responses]
    rows = [
        subject.row(metric, bootstrap_mean(values_N, prompts_N=prompts, seed=seed))
        for metric, values_N in means.items()
    ]
    variety = distinct(tokens, DISTINCT_N)
    return rows if variety is None else [*rows, subject.count("distinct_2", variety, len(tokens))]


def self_bleu_rows(
    subject: Subject, responses: Sequence[Response], *, seed: int = 0
) -> list[EvalResult]:
    """Mean Self-BLEU over the prompts answered more than once; no row where there is none."""
    texts: dict[str, list[str]] = {}
    for response in responses:
        texts.setdefault(response.prompt_id, []).append(response.text)
    found = [value for some in texts.values() if (value := self_bleu(some)) is not None]
    return [subject.row("self_bleu", bootstrap_mean(found, seed=seed))] if found else []
