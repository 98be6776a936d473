"""Comparisons of models' answers with a baseline's, by a judge of pairs in both orders."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.win_rate import Outcome, outcome
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, pair_judge, subject
from alignlab.evaluation.win_rate_rows import comparison_rows
from alignlab.types import Feedback

Outcomes = dict[str, list[Outcome]]
"""Model -> its outcome on each question; unanswered ones have no value."""


class Duels(NamedTuple):
    """Comparisons of every model with the baseline."""

    outcomes: Outcomes
    said: list[Feedback]


def duels(inputs: BenchmarkInputs) -> Duels:
    """Judge every model's answers against the baseline's.

    Raises:
        BadInput: the baseline answered none of the questions that a model answered.
    """
    base = inputs.baseline
    if base is None:
        raise BadInput("--baseline is missing: whom the models are compared with")
    outcomes: Outcomes = {}
    judgements: list[Feedback] = []
    for answers in inputs.answers:
        items = []
        missing = []
        for question in inputs.questions:
            own, other = answers.last(question), base.last(question)
            if own is None or other is None:
                missing.append(Outcome(question.id, None))
            else:
                items.append((question.prompt, own, other))
        if not items:
            raise BadInput(f"{base.model}: expected answers to questions of {answers.model}")
        judged = pair_judge(inputs).compare(items, inputs.seed)
        outcomes[answers.model] = [outcome(f, model_is=0) for f in judged] + missing
        judgements += judged
    return Duels(outcomes, judgements)


def duel_findings(
    inputs: BenchmarkInputs,
    benchmark: str,
    fought: Duels | None = None,
    *,
    comparable: bool | None = None,
) -> Findings:
    """Compute adjusted win rates, (wins + ties/2) / judged (arXiv 2402.03469), also by part."""
    outcomes, judgements = fought or duels(inputs)
    prompts = [q.prompt for q in inputs.questions]
    compared = {subject(inputs, model, benchmark): some for model, some in outcomes.items()}
    rows = [
        replace(row, comparable=comparable)
        for row in comparison_rows(compared, prompts, seed=inputs.seed)
    ]
    return Findings(tuple(rows), tuple(judgements))
