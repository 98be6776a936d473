"""REINFORCE with a baseline (Williams, 1992), as in arXiv 2402.14740, section 3.2.

The whole response is one action: L = -(R - b) * log pi(y|x), R the score less kl_coef times the
response's KL from the reference. Baseline b: the mean reward of the batch's other responses, or
that of all earlier batches (equation 5; the first batch uses the former).

Assumes on-policy responses: each is learned from once, by the policy that drew it. No departures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from alignlab.objectives.base import ObjectiveOutput
from alignlab.objectives.credit import (
    KLPenalty,
    at_every_token_NT,
    over_rollouts,
    rollout_metrics,
    rollout_sums,
    seen_so_far,
)
from alignlab.objectives.rollout_batch import Credit, CreditState, RolloutLogps, Rollouts
from alignlab.registry import register


@register("objective", "reinforce")
@dataclass(frozen=True)
class Reinforce(KLPenalty):
    """Raise responses whose reward is above a baseline."""

    baseline: Literal["batch", "moving", "none"] = "batch"
    """Baseline of a reward: mean of the batch's other rewards, of all earlier batches, or none."""

    min_responses: ClassVar[int] = 1
    once: ClassVar[bool] = True

    def credit(self, rollouts: Rollouts, state: CreditState) -> Credit:
        """Credit every token with its response's reward less the baseline."""
        reward_N = rollouts.score_N - self.penalty_NT(rollouts, state).sum(1)
        others_N = (reward_N.sum() - reward_N) / max(1, len(reward_N) - 1)
        if self.baseline == "none":
            advantage_N, after = reward_N, state
        elif self.baseline == "batch":
            advantage_N, after = reward_N - others_N, state
        else:
            before_N = others_N if not state.count else torch.full_like(reward_N, state.mean)
            advantage_N, after = reward_N - before_N, seen_so_far(state, reward_N)
        return Credit(
            at_every_token_NT(advantage_N, rollouts.mask_NT),
            None,
            rollout_metrics(rollouts, reward_N, state),
            self.controlled(rollouts, after),
        )

    def __call__(self, given: RolloutLogps) -> ObjectiveOutput:
        """Return the mean loss per group, weighted by its responses."""
        loss_N = -rollout_sums(given.advantage_R * given.policy_R, given)
        return over_rollouts(loss_N, given, {"loss/policy": loss_N.detach()})
