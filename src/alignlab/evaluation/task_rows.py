"""Rows of a benchmark from a value per question: whole and by part, what is missing counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alignlab.evaluation.metrics.intervals import bootstrap_mean, share_interval
from alignlab.evaluation.result_rows import Subject, by_group
from alignlab.types import EvalResult, Prompt


@dataclass(frozen=True)
class QuestionValue:
    """What was measured on one question, or on a part of its answer."""

    prompt_id: str
    value: float | None
    """None is unscored."""


@dataclass(frozen=True)
class Measure:
    """One metric of a benchmark."""

    name: str
    is_share: bool = False
    """Whether its values lie between 0 and 1, so that its interval does."""


def part_rows(
    about: Subject,
    measure: Measure,
    values: Sequence[QuestionValue],
    prompts: Mapping[str, Prompt],
    *,
    seed: int,
) -> list[EvalResult]:
    """Means over the scored values, as a whole and by part; a prompt's values stay together."""
    return [
        one_row(about, measure, some, seed=seed, group=part)
        for part, some in by_group(values, lambda v: prompts[v.prompt_id])
    ]


def one_row(
    about: Subject,
    measure: Measure,
    values: Sequence[QuestionValue],
    *,
    seed: int,
    group: str | None = None,
) -> EvalResult:
    """The mean of the scored values with its interval over prompts."""
    scored = [(v.prompt_id, v.value) for v in values if v.value is not None]
    prompts, numbers = [p for p, _ in scored], [v for _, v in scored]
    figure = (
        share_interval(numbers, prompts)
        if measure.is_share
        else bootstrap_mean(numbers, prompts_N=prompts, seed=seed)
    )
    return about.row(measure.name, figure, unscored=len(values) - len(scored), group=group)


def not_comparable(rows: Sequence[EvalResult]) -> tuple[EvalResult, ...]:
    """The rows, marked as not comparable with published figures."""
    return tuple(replace(row, comparable=False) for row in rows)
