"""Result rows of length, repetition, questions and emptiness of a model's answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignlab.evaluation.metrics.intervals import Floats, bootstrap_ratio
from alignlab.evaluation.metrics.length import lengths
from alignlab.evaluation.metrics.repetition import distinct, ngram_repetition
from alignlab.evaluation.result_rows import Subject
from alignlab.text import sentences, words
from alignlab.types import EvalResult, Prompt, Response

REPETITION_N = 4
"""Length of the n-grams whose repetition is measured (arXiv 2402.03469)."""
DISTINCT_N = 2
QUESTION_MARKS = ("?", "\uff1f", "\u061f")
"""Question marks: Latin, full-width and Arabic."""


def text_rows(
    subject: Subject, responses: Sequence[Response], prompts: Sequence[Prompt], *, seed: int = 0
) -> list[EvalResult]:
    """Return means over responses with intervals over prompts, and distinct-2 of all texts.

    `repeated_share` is the share of responses that contain a sentence twice, `question_share` of
    those whose last sentence is a question.
    """
    measured = lengths(responses)
    tokens = [words(r.text) for r in responses]
    parts = [sentences(r.text) for r in responses]
    means: dict[str, Floats] = {
        "tokens": measured.tokens_N.astype(np.float64),
        "words": measured.words_N.astype(np.float64),
        "repetition_4": np.array([ngram_repetition(t, REPETITION_N) for t in tokens]),
        "repeated_share": np.array([float(len(set(some)) < len(some)) for some in parts]),
        "question_share": np.array([float(_ends_with_question(some)) for some in parts]),
        "empty_share": measured.empty_N.astype(np.float64),
        "cut_share": np.array([float(r.finish == "length") for r in responses]),
    }
    cluster = {prompt.id: prompt.cluster for prompt in prompts}
    clusters = [cluster[r.prompt_id] for r in responses]
    ones_N = np.ones(len(responses))
    rows = [
        subject.row(
            metric,
            bootstrap_ratio(
                values_N,
                ones_N,
                prompts_N=clusters,
                seed=seed,
                is_share=metric not in ("tokens", "words"),
            ),
        )
        for metric, values_N in means.items()
    ]
    variety = distinct(tokens, DISTINCT_N)
    return rows if variety is None else [*rows, subject.count("distinct_2", variety, len(tokens))]


def _ends_with_question(parts: Sequence[str]) -> bool:
    return bool(parts) and parts[-1].endswith(QUESTION_MARKS)
