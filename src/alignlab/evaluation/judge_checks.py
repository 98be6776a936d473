"""Checks of a judge from its verdicts on a benchmark, without further calls.

Position (the same verdict in both orders, and how often the one shown first wins), length (how
often the longer wins, or the correlation of scores with length), and unread verdicts. A bias for
length may be justified; without human verdicts that stays open (`alignlab evaluate audit`
compares).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignlab.evaluation.metrics.correlation import spearman_interval
from alignlab.evaluation.metrics.intervals import labels
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_rows import Measure, QuestionValue, one_row
from alignlab.evaluation.tasks import BenchmarkInputs, subject, value_of
from alignlab.types import EvalResult, Feedback, Preference, Prompt, Score, Unscored

NAME = "judge_checks"


def judge_checks(inputs: BenchmarkInputs, judgements: Sequence[Feedback]) -> list[EvalResult]:
    """Build rows on the judge; none without a judge or without verdicts on answers."""
    if inputs.judge is None:
        return []
    length = {r.id: len(r.text) for a in inputs.everyone for rs in a.turns.values() for r in rs}
    known = [f for f in judgements if all(key in length for key in f.response_ids)]
    pairs = [f for f in known if len(f.response_ids) == 2]
    single = [f for f in known if len(f.response_ids) == 1]
    about = Subject(f"judge {inputs.judge.name}", NAME)
    rated = [f for f in single if isinstance(f.verdict, Score | Unscored)]
    rows = []
    if pairs:
        rows += [
            *position_rows(about, pairs, inputs.prompts, inputs.seed),
            *_longer(about, pairs, length, inputs),
        ]
    if any(isinstance(f.verdict, Score) for f in rated):
        rows.append(_with_length(about, rated, length, inputs))
    if pairs or rated:
        unread = [QuestionValue(f.prompt_id, float(value_of(f) is None)) for f in (*pairs, *rated)]
        rows.append(
            one_row(
                about,
                Measure("unreadable", is_share=True),
                unread,
                inputs.prompts,
                seed=inputs.seed,
            )
        )
    return rows


def thought_rows(inputs: BenchmarkInputs, benchmark: str) -> list[EvalResult]:
    """Count the answers without their thoughts or a template's tokens, for models with any."""
    return [
        subject(inputs, a.model, benchmark).count(metric, float(changed), len(a.turns))
        for a in inputs.everyone
        for metric, changed in (
            ("thoughts_removed", a.thoughts),
            ("template_tokens_removed", a.markers),
        )
        if changed
    ]


def position_rows(
    about: Subject, judgements: Sequence[Feedback], prompts: Mapping[str, Prompt], seed: int
) -> list[EvalResult]:
    """Compute consistency over orders and the share won by the first shown; none without orders."""
    alike, first = [], []
    for feedback in judgements:
        verdict, key = feedback.verdict, feedback.prompt_id
        if isinstance(verdict, Preference) and len(verdict.orders) == 2:
            alike.append(QuestionValue(key, float(verdict.orders[0] == verdict.orders[1])))
            # Response 0 is shown first in the first order, response 1 in the second.
            first += [
                QuestionValue(key, float(winner == shown))
                for shown, winner in enumerate(verdict.orders)
                if winner is not None
            ]
    if not alike:
        return []
    return [
        one_row(about, Measure("consistent", is_share=True), alike, prompts, seed=seed),
        one_row(about, Measure("first_wins", is_share=True), first, prompts, seed=seed),
    ]


def _longer(
    about: Subject, pairs: Sequence[Feedback], length: dict[str, int], inputs: BenchmarkInputs
) -> list[EvalResult]:
    """Compute the longer answer's share of wins, ties one half; no row where all are as long."""
    values = []
    for feedback in pairs:
        first, second = (length[key] for key in feedback.response_ids)
        value = value_of(feedback)
        if first != second:
            turned = value if value is None or first > second else 1 - value
            values.append(QuestionValue(feedback.prompt_id, turned))
    if not values:
        return []
    return [
        one_row(
            about, Measure("longer_wins", is_share=True), values, inputs.prompts, seed=inputs.seed
        )
    ]


def _with_length(
    about: Subject, judgements: Sequence[Feedback], length: dict[str, int], inputs: BenchmarkInputs
) -> EvalResult:
    """Compute Spearman's correlation of scores with the answers' lengths in characters."""
    scored = [(f, f.verdict.value) for f in judgements if isinstance(f.verdict, Score)]
    figure = spearman_interval(
        [value for _, value in scored],
        [length[f.response_ids[0]] for f, _ in scored],
        labels([inputs.prompts[f.prompt_id].cluster for f, _ in scored]),
        seed=inputs.seed,
    )
    return about.row("spearman_with_length", figure, unscored=len(judgements) - len(scored))
