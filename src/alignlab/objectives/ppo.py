"""Proximal policy optimisation, PPO (arXiv 1707.06347, equations 7 and 9; arXiv 1909.08593).

Maximise a score less a KL penalty, with a learned value of each state. Reward of a token: -kl_coef
* KL_t, plus the score at the last token, or the rewards inside the response that make up the score
(as in ARES, arXiv 2407.00087). Advantages by GAE (arXiv 1506.02438), whitened over the
batch's response tokens; returns are advantages before whitening plus values. Loss, each term a mean
over the step's response tokens:

    max(-A * ratio, -A * clip(ratio, 1 - c, 1 + c))
    + vf_coef * 0.5 * max((V - R)^2, (V_old + clip(V - V_old, -v, v) - R)^2)

with ratio = pi / pi_old. Policy and values share the model's body; the value head starts at zero.
Assumes that a truncated response ended: no value is expected after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from alignlab.configs import Fraction, NonNegative, Positive
from alignlab.objectives.base import ObjectiveOutput
from alignlab.objectives.credit import (
    Clipped,
    KLPenalty,
    at_last_token_NT,
    clipped_surrogate,
    gae_NT,
    over_tokens,
    policy_metrics,
    rollout_metrics,
    seen_so_far,
    step_rewards,
    whitened,
)
from alignlab.objectives.rollout_batch import Credit, CreditState, Rollouts, ValuedLogps
from alignlab.registry import register


@register("objective", "ppo")
@dataclass(frozen=True)
class PPO(KLPenalty):
    """Maximise a score less a KL penalty per token, with a learned value of each state."""

    gamma: Fraction = 1.0
    """Discount per token, in [0, 1]."""
    lam: Fraction = 0.95
    """GAE's lambda, in [0, 1]: 1 trusts sampled returns, 0 the value head."""
    whiten: bool = True
    """Normalise the advantages of a batch to mean 0 and std 1."""
    clip: Positive = 0.2
    """Clipping range of the policy's ratio, 1 - clip to 1 + clip."""
    value_clip: NonNegative = 0.2
    """Clipping range of values around the old ones; 0 does not clip."""
    vf_coef: Positive = 0.1
    """Weight of the value loss."""
    scores: Literal["raw", "scaled", "normalised"] = "raw"
    """Scaling of scores: none; divided by the running std; or less the running mean too."""
    score_clip: NonNegative = 0.0
    """Bound on the size of scores, or of each reward inside a response, after scaling; 0 sets
    none."""

    takes: ClassVar[type] = ValuedLogps
    min_responses: ClassVar[int] = 1

    def credit(self, rollouts: Rollouts, state: CreditState) -> Credit:
        """Compute advantages and returns of a batch, and the next KL coefficient."""
        if rollouts.value_NT is None:
            raise ValueError("ppo needs values; none were given")
        mask_NT = rollouts.mask_NT
        after = state if self.scores == "raw" else seen_so_far(state, rollouts.score_N)
        reward_NT = self._shaped(rollouts, after) - self.penalty_NT(rollouts, state)
        advantage_NT = gae_NT(reward_NT, rollouts.value_NT, mask_NT, gamma=self.gamma, lam=self.lam)
        return_NT = advantage_NT + torch.where(mask_NT, rollouts.value_NT, 0.0)
        metrics = rollout_metrics(rollouts, reward_NT.sum(1), state)
        metrics["val/mean"] = rollouts.value_NT[mask_NT]
        if self.whiten:
            advantage_NT = whitened(advantage_NT, mask_NT)
        return Credit(advantage_NT, return_NT, metrics, self.controlled(rollouts, after))

    def __call__(self, given: ValuedLogps) -> ObjectiveOutput:
        """Return the token-mean loss per group, weighted by its tokens."""
        tokens = given.tokens
        policy = clipped_surrogate(
            tokens.policy_R - tokens.old_R, tokens.advantage_R, low=self.clip, high=self.clip
        )
        value = self._value_loss(given)
        metrics = policy_metrics(tokens, policy) | {
            "loss/value": value.loss.detach(),
            "val/clipfrac": value.bounded.double(),
            "val/error": (given.value_R - given.return_R).detach() ** 2,
        }
        return over_tokens(policy.loss + self.vf_coef * value.loss, tokens, metrics)

    def _value_loss(self, given: ValuedLogps) -> Clipped:
        """Return half the squared error of each value, clipped; (R,)."""
        free_R = (given.value_R - given.return_R) ** 2
        if not self.value_clip:
            return Clipped(free_R / 2, torch.zeros_like(free_R, dtype=torch.bool))
        moved_R = (given.value_R - given.old_value_R).clamp(-self.value_clip, self.value_clip)
        bound_R = (given.old_value_R + moved_R - given.return_R) ** 2
        return Clipped(torch.maximum(free_R, bound_R) / 2, (bound_R > free_R).detach())

    def _shaped(self, rollouts: Rollouts, state: CreditState) -> Tensor:
        """Scale rewards by the running std of scores, which includes them, and clip them; (N, T).

        The running mean is subtracted once per response, at its last token.
        """
        reward_NT = step_rewards(rollouts).reward_NT
        if self.scores != "raw":
            std = (state.squares / max(1.0, state.count - 1)) ** 0.5
            shift = state.mean if self.scores == "normalised" else 0.0
            shift_N = torch.full_like(rollouts.score_N, shift)
            reward_NT = (reward_NT - at_last_token_NT(shift_N, rollouts.mask_NT)) / (std + 1e-8)
        if self.score_clip:
            reward_NT = reward_NT.clamp(-self.score_clip, self.score_clip)
        return reward_NT
