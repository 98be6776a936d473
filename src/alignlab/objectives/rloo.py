"""REINFORCE leave-one-out, RLOO (arXiv 2402.14740, equation 6).

The whole response is one action, its reward R the score less kl_coef times the response's KL from
the reference. Advantage: R less the mean reward of the other K - 1 responses to the prompt.

Assumes K >= 2 responses per prompt. Departs from equation 6: the loss is clipped like PPO's, with
the ratio of whole responses, which allows several updates per batch; in the first update the ratio
is 1 and the gradient equals the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab.configs import Positive
from alignlab.objectives.base import ObjectiveOutput
from alignlab.objectives.credit import (
    KLPenalty,
    at_every_token_NT,
    clipped_surrogate,
    group_sums,
    over_rollouts,
    policy_metrics,
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

    def credit(self, rollouts: Rollouts, state: CreditState) -> Credit:
        """Credit every token with its response's reward less the mean of the prompt's others."""
        reward_N = rollouts.score_N - self.penalty_NT(rollouts, state).sum(1)
        group_N = rollouts.group_N
        siblings_N = group_sums(reward_N.new_ones(len(reward_N)), group_N)[group_N] - 1
        others_N = (group_sums(reward_N, group_N)[group_N] - reward_N) / siblings_N
        advantage_N = reward_N - others_N
        if self.normalise:
            advantage_N = (advantage_N - advantage_N.mean()) / (advantage_N.std() + 1e-4)
        return Credit(
            at_every_token_NT(advantage_N, rollouts.mask_NT),
            None,
            rollout_metrics(rollouts, reward_N, state),
            self.controlled(rollouts, state),
        )

    def __call__(self, given: RolloutLogps) -> ObjectiveOutput:
        """Return the mean loss per group, weighted by its responses."""
        log_ratio_N = rollout_sums(given.policy_R - given.old_R, given)
        # The advantage is constant along a response: its mean recovers the value per response.
        advantage_N = rollout_means(given.advantage_R, given)
        policy = clipped_surrogate(log_ratio_N, advantage_N, low=self.clip, high=self.clip)
        return over_rollouts(policy.loss, given, policy_metrics(given, policy))
