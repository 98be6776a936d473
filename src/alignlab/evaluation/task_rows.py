"""Result rows of a benchmark from a value per question; missing values are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alignlab.evaluation.metrics.intervals import bootstrap_mean, share_interval
from alignlab.evaluation.result_rows import Subject, by_group
from alignlab.types import EvalResult, Feedback, Prompt, Score


@dataclass(frozen=True)
class QuestionValue:
    """Value measured on one question, or on a part of its answer."""

    prompt_id: str
    value: float | None
    """Measured value; None is unscored."""


@dataclass(frozen=True)
class Measure:
    """Metric of a benchmark."""

    name: str
    is_share: bool = False
    """Range of the values: True where they lie between 0 and 1, and so does the interval."""


def part_rows(
    about: Subject,
    measure: Measure,
    values: Sequence[QuestionValue],
    prompts: Mapping[str, Prompt],
    *,
    seed: int,
) -> list[EvalResult]:
    """Return means of the scored values, overall and by part; a prompt's values stay together."""
    return [
        one_row(about, measure, some, prompts, seed=seed, group=part)
        for part, some in by_group(values, lambda v: prompts[v.prompt_id])
    ]


def prompt_count(
    about: Subject, values: Sequence[QuestionValue], prompts: Mapping[str, Prompt]
) -> list[EvalResult]:
    """Count the distinct prompts of the values; no row where each value has its own."""
    number = len({prompts[v.prompt_id].cluster for v in values})
    return [about.count("prompts", float(number), len(values))] if number < len(values) else []


def one_row(
    about: Subject,
    measure: Measure,
    values: Sequence[QuestionValue],
    prompts: Mapping[str, Prompt],
    *,
    seed: int,
    group: str | None = None,
) -> EvalResult:
    """Return the mean of the scored values with its interval over prompts."""
    known = {key: prompts[key].cluster for key in {v.prompt_id for v in values}}
    scored = [(known[v.prompt_id], v.value) for v in values if v.value is not None]
    clusters, numbers = [c for c, _ in scored], [v for _, v in scored]
    figure = (
        share_interval(numbers, clusters)
        if measure.is_share
        else bootstrap_mean(numbers, prompts_N=clusters, seed=seed)
    )
    return about.row(measure.name, figure, unscored=len(values) - len(scored), group=group)


def score_rows(
    subject: Subject,
    judged: Sequence[Feedback],
    prompts: Sequence[Prompt],
    *,
    metric: str = "mean",
    seed: int = 0,
) -> list[EvalResult]:
    """Return the mean score with its interval over prompts, overall and by part.

    Feedback on several responses to a prompt (several training seeds, say) may come together;
    a prompt's scores are resampled together.
    """
    values = [
        QuestionValue(f.prompt_id, f.verdict.value if isinstance(f.verdict, Score) else None)
        for f in judged
    ]
    return part_rows(subject, Measure(metric), values, {p.id: p for p in prompts}, seed=seed)


def not_comparable(rows: Sequence[EvalResult]) -> tuple[EvalResult, ...]:
    """Mark rows as not comparable with published figures."""
    return tuple(replace(row, comparable=False) for row in rows)
