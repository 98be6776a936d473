"""Benchmarks of judges whose rows hold good and bad answers: reading, scoring, averaging.

Rows as RewardBench and RM-Bench publish them: `prompt` with `chosen` and `rejected`, each a text or
a list of texts. Nothing is merged or left out: a repeated answer is scored each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from alignlab.evaluation.metrics.intervals import (
    DRAWS,
    NOTHING,
    alike,
    labels,
    percentile_interval,
    resample_counts,
)
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_files import BenchmarkRow, is_text
from alignlab.evaluation.task_rows import QuestionValue
from alignlab.evaluation.tasks import BenchmarkInputs, Question, score_judge, value_of
from alignlab.seeds import generator
from alignlab.types import EvalResult, Feedback, Message, Prompt, Response, SampledBy

Scores = Sequence[float | None]
"""Scores of a question's candidates, the good ones first; None is unscored."""
LONGER = "longer wins"
"""Name of the guess that the longest answer is the best, measured on the same answers."""


class Scored(NamedTuple):
    """Scores by one judge, or one guess, of every question's candidates."""

    name: str
    scores: Mapping[str, Scores]
    """Question id -> its candidates' scores."""


def candidate_question(row: BenchmarkRow, key: str, source: str) -> Question:
    """Read one row with its answers.

    Raises:
        BadInput: a prompt, a chosen or a rejected answer is missing or no text.
    """
    chosen, rejected = _answers(row, "chosen"), _answers(row, "rejected")
    prompt = Prompt(key, _messages(row), source)
    return Question(prompt, candidates=(*chosen, *rejected), good=len(chosen))


def scored_candidates(inputs: BenchmarkInputs) -> tuple[list[Scored], list[Feedback]]:
    """Score every candidate with the judge; the guess that longer is better comes second."""
    judge = score_judge(inputs)
    items = [
        (
            q.prompt,
            [
                Response(f"{q.id}/{number}", q.id, text, SampledBy("the data"))
                for number, text in enumerate(q.candidates)
            ],
        )
        for q in inputs.questions
    ]
    judged = judge.rate(items, inputs.seed)
    values = iter(map(value_of, judged))
    by_judge = {q.id: [next(values) for _ in q.candidates] for q in inputs.questions}
    by_length = {q.id: [float(len(text)) for text in q.candidates] for q in inputs.questions}
    return [Scored(judge.name, by_judge), Scored(LONGER, by_length)], judged


def mean_of_parts(
    about: Subject,
    metric: str,
    parts: Mapping[str, Sequence[QuestionValue]],
    prompts: Mapping[str, Prompt],
    *,
    weights: Mapping[str, float] | None = None,
    seed: int,
    group: str | None = None,
) -> EvalResult:
    """Return the weighted mean of the parts' means, with its interval over prompts.

    Prompts are resampled within each part, or over all parts where a prompt stands in several.

    Args:
        about: subject of the row.
        metric: the row's metric.
        parts: values by part; None where a part has no scored value.
        prompts: prompts by id.
        weights: a part's weight; equal ones by default.
        seed: decides the bootstrap draws.
        group: the row's group.
    """
    every = [v for values in parts.values() for v in values]
    unscored = sum(v.value is None for v in every)
    scored = {part: [v for v in some if v.value is not None] for part, some in parts.items()}
    if not all(scored.values()):
        return about.row(metric, NOTHING, unscored=len(every), group=group)
    of_part = {p: [prompts[v.prompt_id].cluster for v in some] for p, some in scored.items()}
    units = len({cluster for clusters in of_part.values() for cluster in clusters})
    in_several = units < sum(len(set(clusters)) for clusters in of_part.values())
    at = {c: i for i, c in enumerate(dict.fromkeys(c for some in of_part.values() for c in some))}
    together = (
        resample_counts(units, DRAWS, generator(seed, about.benchmark)) if in_several else None
    )
    value, total = 0.0, 0.0
    drawn_D = np.zeros(DRAWS)
    for part, known in scored.items():
        value_N = np.array([v.value for v in known], np.float64)
        if together is None:
            cluster_N = labels(of_part[part])
            number = int(cluster_N.max()) + 1
            counts_DC = resample_counts(number, DRAWS, generator(seed, about.benchmark, part))
        else:
            cluster_N, counts_DC = np.array([at[c] for c in of_part[part]]), together
        width = counts_DC.shape[1]
        sums_D = counts_DC @ np.bincount(cluster_N, value_N, minlength=width)
        sizes_D = counts_DC @ np.bincount(cluster_N, minlength=width)
        weight = 1.0 if weights is None else weights[part]
        value, total = value + weight * float(value_N.mean()), total + weight
        # A draw without any prompt of a part has no mean of the parts.
        drawn_D += weight * np.divide(
            sums_D, sizes_D, out=np.full(DRAWS, np.nan), where=sizes_D > 0
        )
    n = len(every) - unscored
    figure = percentile_interval(value / total, drawn_D / total, n=n, units=units)
    figures = [v.value for v in every if v.value is not None]
    if figure.low == figure.high and units > 1 and 0 <= min(figures) <= max(figures) <= 1:
        squares = sum(
            (1.0 if weights is None else weights[part]) ** 2 / len(set(of_part[part]))
            for part in scored
        )
        figure = alike(value / total, min(units, total**2 / squares), n=n)
    return about.row(metric, figure, unscored=unscored, group=group)


def _answers(row: BenchmarkRow, field: str) -> tuple[str, ...]:
    """Read one answer, several, or a conversation that ends in one."""
    found = row.values.get(field)
    last = found[-1] if isinstance(found, list) and found else None
    if isinstance(last, dict) and last.get("role") == "assistant":
        found = last.get("content")
        if not is_text(found):
            raise row.bad(field, "turns that end in an answer", last)
        return (found,)
    if is_text(found) and not found.startswith("["):
        return (found,)
    return tuple(row.texts(field))


def _messages(row: BenchmarkRow) -> tuple[Message, ...]:
    turns = row.values.get("prompt")
    if not isinstance(turns, list):
        return (Message("user", row.text("prompt")),)
    try:
        found = tuple(Message(turn["role"], turn["content"]) for turn in turns)
        if found[-1].role == "user" and all(is_text(m.role) and is_text(m.content) for m in found):
            return found
    except (KeyError, TypeError, IndexError):
        pass
    raise row.bad("prompt", "a text or turns that end in a user's", turns)
