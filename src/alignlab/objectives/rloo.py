"""REINFORCE leave-one-out, RLOO (arXiv 2402.14740, equation 6).

The whole response is one action, its reward R the score less kl_coef times the response's KL from
the reference. Advantage: R less the mean reward of the other K - 1 responses to the prompt.

Assumes K >= 2 responses per prompt. Departs from equation 6: the loss is clipped like PPO's, with
the ratio of whole responses, which allows several updates per batch; in the first update the ratio
is 1 and the gradient equals the paper's.

With rewards inside a response, R of a token is the sum of those from it on (reward-to-go); KL and
baseline stay those of whole responses. Where the advantage changes along a response, its loss is
the sum over tokens of PPO's, with the ratio of each token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from alignlab.configs import Positive
from alignlab.objectives.base import ObjectiveOutput
from alignlab.objectives.credit import (
    Clipped,
    KLPenalty,
    clipped_surrogate,
    group_sums,
    over_rollouts,
    policy_metrics,
    response_credit_NT,
    rollout_means,
    rollout_metrics,
    rollout_sums,
)
from alignlab.objectives.rollout_batch import Credit, CreditState, RolloutLogps, Rollouts
from alignlab.registry import register


@register("objective", "rloo")
@dataclass(frozen=True)
class RLOO(KLPenalty):
    """Raise responses whose reward is above that of the prompt's other responses."""

    clip: Positive = 0.2
    """Clipping range of the ratio of a whole response, 1 - clip to 1 + clip."""
    normalise: bool = False
    """Normalise the advantages of a batch to mean 0 and std 1."""

    group_relative: ClassVar[bool] = True
    by_response: ClassVar[bool] = True

    def credit(self, rollouts: Rollouts, state: CreditState) -> Credit:
        """Credit every token with its reward, or the rest of it, less the mean of the others'."""
        penalty_N = self.penalty_NT(rollouts, state).sum(1)
        reward_N = rollouts.score_N - penalty_N
        group_N = rollouts.group_N
        siblings_N = group_sums(reward_N.new_ones(len(reward_N)), group_N)[group_N] - 1
        others_N = (group_sums(reward_N, group_N)[group_N] - reward_N) / siblings_N
        advantage_NT = response_credit_NT(rollouts, penalty_N, others_N)
        if self.normalise:
            whole_N = reward_N - others_N
            scaled_NT = (advantage_NT - whole_N.mean()) / (whole_N.std() + 1e-4)
            advantage_NT = torch.where(rollouts.mask_NT, scaled_NT, 0.0)
        return Credit(
            advantage_NT,
            None,
            rollout_metrics(rollouts, reward_N, state),
            self.controlled(rollouts, state),
        )

    def __call__(self, given: RolloutLogps) -> ObjectiveOutput:
        """Return the mean loss per group, weighted by its responses."""
        log_ratio_R = given.policy_R - given.old_R
        # Constant along a response, the mean of the advantage recovers the value per response.
        advantage_N = rollout_means(given.advantage_R, given)
        log_ratio_N = rollout_sums(log_ratio_R, given)
        policy = clipped_surrogate(log_ratio_N, advantage_N, low=self.clip, high=self.clip)
        constant_N = _constant(given)
        if not constant_N.all():
            each = clipped_surrogate(log_ratio_R, given.advantage_R, low=self.clip, high=self.clip)
            bounded_N = rollout_means(each.bounded.double(), given)
            policy = Clipped(
                torch.where(constant_N, policy.loss, rollout_sums(each.loss, given)),
                torch.where(constant_N, policy.bounded.double(), bounded_N),
            )
        return over_rollouts(policy.loss, given, policy_metrics(given, policy))


def _constant(given: RolloutLogps) -> Tensor:
    """Return True for each rollout whose tokens have one advantage; (N,)."""
    advantage_R, sequence_R = given.advantage_R, given.sequence_R
    start_N = advantage_R.new_zeros(len(given.group_N))
    least_N, most_N = (
        start_N.scatter_reduce(0, sequence_R, advantage_R, how, include_self=False)
        for how in ("amin", "amax")
    )
    return least_N == most_N
