"""Log-probabilities of given responses under a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup, micro_batches
from alignlab.models.scorer import ResponseScorer, Scorer, TokenLogps


@dataclass(frozen=True)
class ResponseLogps:
    """Log-probabilities of one group's responses, in nats."""

    group_id: str
    tokens: tuple[tuple[float, ...], ...]
    """Per response, per token, the end-of-turn token included."""
    sums: tuple[float, ...]
    """Per response, summed in float64."""


def response_logprobs(
    lm: LanguageModel, groups: Sequence[TokenGroup], *, token_budget: int = 8192
) -> list[ResponseLogps]:
    """Score every response of every group, in order.

    Args:
        lm: the model; its weights are used as they are.
        groups: prompts with responses.
        token_budget: tokens of one forward pass.
    """
    return score_groups(ResponseScorer(lm.model), groups, token_budget)


def score_groups(
    scorer: Scorer[TokenLogps], groups: Sequence[TokenGroup], token_budget: int
) -> list[ResponseLogps]:
    """Score every response of every group with a given scorer, in order."""
    found: dict[int, ResponseLogps] = {}
    training = scorer.base.training
    scorer.base.eval()
    try:
        for batch in micro_batches(groups, token_budget):
            members = [groups[i] for i in batch]
            with torch.no_grad(), scorer.scored(members) as scored:
                tokens = iter(torch.split(scored.logp_R.cpu(), list(scored.targets.length_N)))
                sums = iter(scored.sequence_N().tolist())
            for i, group in zip(batch, members, strict=True):
                found[i] = ResponseLogps(
                    group.id,
                    tuple(tuple(next(tokens).tolist()) for _ in group.responses),
                    tuple(next(sums) for _ in group.responses),
                )
    finally:
        scorer.base.train(training)
    return [found[i] for i in range(len(groups))]
