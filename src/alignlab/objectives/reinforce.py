"""REINFORCE with a baseline (Williams, 1992), as in arXiv 2402.14740, section 3.2.

The whole response is one action: L = -(R - b) * log pi(y|x), R the score less kl_coef times the
response's KL from the reference. Baseline b: the mean reward of the batch's other responses, or
that of all earlier batches (equation 5; the first batch uses the former). With rewards inside the
response, R of a token is the sum of those from it on (reward-to-go, as in the policy gradient
theorem), less the same KL and baseline.

Assumes on-policy responses: each is learned from once, by the policy that drew it. No departures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from alignlab.objectives.base import ObjectiveOutput
from alignlab.objectives.credit import (
    KLPenalty,
    over_rollouts,
    response_credit_NT,
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
    by_response: ClassVar[bool] = True

    def credit(self, rollouts: Rollouts, state: CreditState) -> Credit:
        """Credit every token with its response's reward, or the rest of it, less the baseline."""
        penalty_N = self.penalty_NT(rollouts, state).sum(1)
        reward_N = rollouts.score_N - penalty_N
        baseline_N, after = (reward_N.sum() - reward_N) / max(1, len(reward_N) - 1), state
        if self.baseline == "none":
            baseline_N = torch.zeros_like(reward_N)
        elif self.baseline == "moving":
            if state.count:
                baseline_N = torch.full_like(reward_N, state.mean)
            after = seen_so_far(state, reward_N)
        return Credit(
            response_credit_NT(rollouts, penalty_N, baseline_N),
            None,
            rollout_metrics(rollouts, reward_N, state),
            self.controlled(rollouts, after),
        )

    def __call__(self, given: RolloutLogps) -> ObjectiveOutput:
        """Return the mean loss per group, weighted by its responses."""
        loss_N = -rollout_sums(given.advantage_R * given.policy_R, given)
        return over_rollouts(loss_N, given, {"loss/policy": loss_N.detach()})
