"""Measure the rounds of self-rewarding: gap of the scores, and consistency of consecutive judges.

Consistency of two models is (tau + 1) / 2, tau Kendall's rank correlation of their scores of the
same responses to a prompt (CREAM, arXiv 2410.12735): 1 for equal orders, 1/2 for unrelated ones.
Judges that agree no better than by chance give the next round noise to train on. Departure: CREAM
ranks its own samples by log-likelihood ratios; here it is the judges' scores of the held-out
groups, which every round has anyway, and tau-b for their ties.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from alignlab.evaluation.metrics.correlation import kendall_tau_b
from alignlab.measuring.measure import Judgement, PerPromptMetric
from alignlab.types import Score

BENCHMARK = "self_rewards"

Scores = dict[str, float]
"""Response id -> score."""


def round_metrics(
    models: Sequence[str], judgements: Sequence[Judgement]
) -> tuple[PerPromptMetric, ...]:
    """Compute each round's gap of scores, and its consistency with the judge before.

    Args:
        models: judge of each round.
        judgements: judgements of the rounds in order, on own and on held-out responses.
    """
    own = [_by_prompt(j) for j in judgements if j.where == "own"]
    held_out = [_by_prompt(j) for j in judgements if j.where == "held-out"]
    gaps = [score_gap(*each) for each in zip(models, own, strict=True)]
    pairs = pairwise(zip(models, held_out, strict=True))
    return (*gaps, *(consistency(now, before) for before, now in pairs))


def score_gap(model: str, scored: dict[str, Scores]) -> PerPromptMetric:
    """Compute best less worst score of each prompt's responses, unscored for fewer than two."""
    return _metric(
        model,
        "score_gap",
        {
            prompt: max(scores.values()) - min(scores.values()) if len(scores) > 1 else None
            for prompt, scores in scored.items()
        },
    )


def consistency(
    now: tuple[str, dict[str, Scores]], before: tuple[str, dict[str, Scores]]
) -> PerPromptMetric:
    """Compute the agreement of two judges' orders, unscored where one gives no order.

    Args:
        now: name and scores by prompt of a judge.
        before: the same of the judge that it was trained by.
    """
    (model, scored), (parent, known) = now, before

    def agreement(scores: Scores, other: Scores) -> float | None:
        common = sorted(scores.keys() & other.keys())
        if len(common) < 2:
            return None
        tau = kendall_tau_b([scores[i] for i in common], [other[i] for i in common])
        return None if tau is None else (tau + 1) / 2

    found = {p: agreement(scores, known.get(p, {})) for p, scores in scored.items()}
    return _metric(model, "rank_consistency", found, against=parent)


def _metric(
    model: str, name: str, found: dict[str, float | None], against: str | None = None
) -> PerPromptMetric:
    values = {prompt: value for prompt, value in found.items() if value is not None}
    return PerPromptMetric(
        model,
        BENCHMARK,
        name,
        tuple(values),
        tuple(values.values()),
        against,
        len(found) - len(values),
    )


def _by_prompt(judgement: Judgement) -> dict[str, Scores]:
    """Return the readable scores by prompt; prompts without any stay, empty."""
    found: dict[str, Scores] = {f.prompt_id: {} for f in judgement.feedback}
    scored: Iterable[tuple[str, str, float]] = (
        (f.prompt_id, f.response_ids[0], f.verdict.value)
        for f in judgement.feedback
        if isinstance(f.verdict, Score)
    )
    for prompt, response, value in scored:
        found[prompt][response] = value
    return found
