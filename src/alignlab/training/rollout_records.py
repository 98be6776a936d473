"""Arrange sampled and scored responses as inputs of policy-gradient objectives.

A batch of rollouts is scored once under the policy that drew it and under the reference, and the
objective assigns credit to each token. The values of each group's tokens are then passed with the
group to every update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import TokenLogps
from alignlab.models.values import TokenValues
from alignlab.objectives.rollout_batch import (
    Credit,
    RolloutLogps,
    Rollouts,
    StepRewards,
    ValuedLogps,
)


class TokenScores(NamedTuple):
    """Scores of a group's response tokens under one model, in float64 on the CPU."""

    logp_R: Tensor
    """Log-probability in nats, response after response."""
    value_R: Tensor | None
    """Value estimate before each token; None without a value head."""


@dataclass(frozen=True)
class RolloutRecord:
    """Values of a group's response tokens before the update."""

    old_R: Tensor
    """log pi_old(token) in nats, under the policy that drew it."""
    reference_R: Tensor
    """log pi_ref(token) in nats."""
    advantage_R: Tensor
    """Advantage of each token."""
    value_R: Tensor | None = None
    """Value estimate when the tokens were drawn."""
    return_R: Tensor | None = None
    """Targets of the value head."""


def token_scores(scored: TokenLogps, groups: Sequence[TokenGroup]) -> list[TokenScores]:
    """Split the scores of a micro-batch by group."""
    lengths = [group.response_tokens for group in groups]
    logps = torch.split(scored.logp_R.double().cpu(), lengths)
    if not isinstance(scored, TokenValues):
        return [TokenScores(logp_R, None) for logp_R in logps]
    values = torch.split(scored.value_R.double().cpu(), lengths)
    return [TokenScores(logp_R, value_R) for logp_R, value_R in zip(logps, values, strict=True)]


def as_rollouts(
    groups: Sequence[TokenGroup], policy: Sequence[TokenScores], reference: Sequence[TokenScores]
) -> Rollouts:
    """Arrange scored responses as a batch, padded to the longest; rewards are the group scores."""
    lengths = [len(r) for group in groups for r in group.responses]
    counts = torch.tensor([len(group.responses) for group in groups])
    mask_NT = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]

    def padded(parts: Sequence[Tensor]) -> Tensor:
        return pad_sequence(list(torch.split(torch.cat(list(parts)), lengths)), batch_first=True)

    values = [each.value_R for each in policy if each.value_R is not None]
    return Rollouts(
        padded([each.logp_R for each in policy]),
        padded([each.logp_R for each in reference]),
        padded(values) if values else None,
        mask_NT,
        torch.tensor([s for group in groups for s in group.scores], dtype=torch.float64),
        torch.arange(len(groups)).repeat_interleave(counts),
        _step_rewards(groups, mask_NT),
    )


def _step_rewards(groups: Sequence[TokenGroup], mask_NT: Tensor) -> StepRewards | None:
    """Arrange the rewards inside responses; None where there are none in the batch."""
    if not any(group.rewards for group in groups):
        return None
    reward_NT = torch.zeros(mask_NT.shape, dtype=torch.float64)
    step_NT = torch.zeros_like(mask_NT)
    rows = [
        rewards
        for group in groups
        for rewards in group.rewards
        or [((len(r) - 1, s),) for r, s in zip(group.responses, group.scores, strict=True)]
    ]
    for n, rewards in enumerate(rows):
        for token, value in rewards:
            reward_NT[n, token], step_NT[n, token] = value, True
    return StepRewards(reward_NT, step_NT)


def rollout_records(
    groups: Sequence[TokenGroup], rollouts: Rollouts, credit: Credit
) -> list[RolloutRecord]:
    """Return each group's token values with their credit."""
    lengths = [group.response_tokens for group in groups]

    def by_group(value_NT: Tensor) -> Sequence[Tensor]:
        found: Sequence[Tensor] = torch.split(value_NT[rollouts.mask_NT], lengths)
        return found

    old, reference = by_group(rollouts.policy_NT), by_group(rollouts.reference_NT)
    parts = [old, reference, by_group(credit.advantage_NT)]
    if rollouts.value_NT is not None and credit.return_NT is not None:
        parts += [by_group(rollouts.value_NT), by_group(credit.return_NT)]
    return [RolloutRecord(*each) for each in zip(*parts, strict=True)]


def rollout_logps(
    scored: TokenLogps, groups: Sequence[TokenGroup], known: Sequence[RolloutRecord]
) -> RolloutLogps:
    """Return a micro-batch's tokens with their recorded values."""
    device = scored.logp_R.device
    counts = torch.tensor(scored.targets.responses_B)
    return RolloutLogps(
        scored.logp_R.double(),
        _joined([each.old_R for each in known], device),
        _joined([each.reference_R for each in known], device),
        _joined([each.advantage_R for each in known], device),
        scored.targets.sequence_R,
        torch.arange(len(groups)).repeat_interleave(counts).to(device),
    )


def valued_logps(
    scored: TokenValues, groups: Sequence[TokenGroup], known: Sequence[RolloutRecord]
) -> ValuedLogps:
    """Return a micro-batch's tokens with their value estimates."""
    device = scored.logp_R.device
    return ValuedLogps(
        rollout_logps(scored, groups, known),
        scored.value_R.double(),
        _joined([each.value_R for each in known], device),
        _joined([each.return_R for each in known], device),
    )


def _joined(parts: Sequence[Tensor | None], device: torch.device) -> Tensor:
    return torch.cat([part for part in parts if part is not None]).to(device)
