"""Compute log-probabilities of given responses under a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup, micro_batches
from alignlab.models.scorer import ResponseScorer, Scorer, TokenLogps, eval_mode


@dataclass(frozen=True)
class ResponseLogps:
    """Log-probabilities of one group's responses, in nats."""

    group_id: str
    tokens: tuple[tuple[float, ...], ...]
    """Log-probability per response and token, end-of-turn token included."""
    sums: tuple[float, ...]
    """Log-probability per response, summed in float64."""


def response_logprobs(
    lm: LanguageModel, groups: Sequence[TokenGroup], *, token_budget: int = 8192
) -> list[ResponseLogps]:
    """Score every response of every group, in order.

    Args:
        lm: the model.
        groups: prompts with responses.
        token_budget: most tokens of one forward pass.
    """
    return score_groups(ResponseScorer(lm.model), groups, token_budget)


def score_groups(
    scorer: Scorer[TokenLogps], groups: Sequence[TokenGroup], token_budget: int
) -> list[ResponseLogps]:
    """Score every response of every group with a given scorer, in order."""
    found: dict[int, ResponseLogps] = {}
    for batch in micro_batches(groups, token_budget):
        members = [groups[i] for i in batch]
        with eval_mode(scorer.base), torch.no_grad(), scorer.scored(members) as scored:
            tokens = iter(torch.split(scored.logp_R.cpu(), list(scored.targets.length_N)))
            sums = iter(scored.sequence_N().tolist())
        for i, group in zip(batch, members, strict=True):
            found[i] = ResponseLogps(
                group.id,
                tuple(tuple(next(tokens).tolist()) for _ in group.responses),
                tuple(next(sums) for _ in group.responses),
            )
    return [found[i] for i in range(len(groups))]
