"""Compute log-probabilities of given responses under a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup, by_group
from alignlab.models.scorer import ResponseScorer, Scorer, TokenLogps, read_groups


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
    return score_groups(ResponseScorer(lm.model, tokenizer=lm.tokenizer), groups, token_budget)


def score_groups(
    scorer: Scorer[TokenLogps], groups: Sequence[TokenGroup], token_budget: int
) -> list[ResponseLogps]:
    """Score every response of every group with a given scorer, in order."""

    def take(scored: TokenLogps, members: Sequence[TokenGroup]) -> list[ResponseLogps]:
        logps = torch.split(scored.logp_R.cpu(), list(scored.targets.length_N))
        tokens = by_group((tuple(logp.tolist()) for logp in logps), members)
        sums = by_group(scored.sequence_N().tolist(), members)
        return [ResponseLogps(g.id, *both) for g, *both in zip(members, tokens, sums, strict=True)]

    return read_groups(scorer, groups, token_budget, take)
