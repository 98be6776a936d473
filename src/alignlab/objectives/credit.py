"""Compute KL penalties, advantages and clipped losses for policy-gradient objectives."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from alignlab.configs import Bounded, NonNegative, Positive, PositiveInt
from alignlab.errors import BadInput
from alignlab.objectives.base import ObjectiveOutput
from alignlab.objectives.rollout_batch import (
    CreditState,
    PolicyGradient,
    RolloutLogps,
    Rollouts,
    StepRewards,
)

Estimator = Literal["k1", "k3"]


@dataclass(frozen=True)
class KLPenalty(Bounded, PolicyGradient):
    """Options of a KL penalty that is part of the reward."""

    kl_coef: NonNegative = 0.05
    """Reward subtracted per nat of KL from the reference; 0 disables the penalty."""
    kl_estimator: Estimator = "k1"
    """KL estimator of a token: k1, the log-ratio; k3, exp(-ratio) - 1 + ratio, never negative."""
    kl_target: Positive | None = None
    """Target KL in nats per response of an adaptive coefficient (arXiv 1909.08593, section 2.2);
    none keeps the coefficient fixed."""
    kl_horizon: PositiveInt = 10_000
    """Time constant of the adaptive coefficient in rollouts; larger is slower."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__.lower()
        defaults = {f.name: f.default for f in fields(KLPenalty)}
        if self.kl_target is None and self.kl_horizon != defaults["kl_horizon"]:
            raise BadInput(f"{name}: kl_horizon has no effect without kl_target; leave it out")
        if not self.kl_coef and (self.kl_target is not None or self.kl_estimator != "k1"):
            raise BadInput(
                f"{name}: kl_target and kl_estimator have no effect with kl_coef=0; leave them out"
            )

    def start(self) -> CreditState:
        """Return the state before the first batch."""
        return CreditState(kl_coef=self.kl_coef)

    def penalty_NT(self, rollouts: Rollouts, state: CreditState) -> Tensor:
        """Return the reward subtracted from each token; (N, T), 0 where padded."""
        return state.kl_coef * kl_NT(rollouts, self.kl_estimator)

    def controlled(self, rollouts: Rollouts, state: CreditState) -> CreditState:
        """Return the state with the coefficient of the next batch."""
        if self.kl_target is None:
            return state
        found = float(kl_NT(rollouts, "k1").sum(1).mean())
        coef = controlled_coef(
            state.kl_coef,
            found,
            target=self.kl_target,
            rollouts=len(rollouts.score_N),
            horizon=self.kl_horizon,
        )
        return replace(state, kl_coef=coef)


def kl_of(policy: Tensor, reference: Tensor, estimator: Estimator) -> Tensor:
    """Estimate KL(pi, pi_ref) in nats per token, from tokens drawn by pi.

    k1 = log pi - log pi_ref; k3 = pi_ref / pi - 1 - log(pi_ref / pi)
    (J. Schulman, "Approximating KL divergence", 2020). Both are unbiased.
    """
    ratio = policy - reference
    return ratio if estimator == "k1" else torch.expm1(-ratio) + ratio


def kl_NT(rollouts: Rollouts, estimator: Estimator) -> Tensor:
    """Estimate the KL from the reference in nats per token; (N, T), 0 where padded."""
    found_NT = kl_of(rollouts.policy_NT, rollouts.reference_NT, estimator)
    return torch.where(rollouts.mask_NT, found_NT, 0.0)


def controlled_coef(
    coef: float, found: float, *, target: float, rollouts: int, horizon: int
) -> float:
    """Return the next coefficient of an adaptive KL penalty (arXiv 1909.08593, section 2.2).

    coef * (1 + clip(found / target - 1, -0.2, 0.2) * rollouts / horizon)

    Args:
        coef: the coefficient of this batch.
        found: mean KL per response of this batch, in nats.
        target: wanted KL per response, in nats.
        rollouts: responses of this batch.
        horizon: time constant in rollouts.
    """
    error = min(max(found / target - 1, -0.2), 0.2)
    return coef * (1 + error * rollouts / horizon)


def whitened(value_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Normalise values to mean 0 and std 1 over unpadded tokens; (N, T), 0 where padded.

    The std is unbiased (n - 1); a single value, or equal values, become 0.
    """
    found = value_NT[mask_NT]
    centred_NT = value_NT - found.mean()
    variance = found.var() if found.numel() > 1 else found.new_zeros(())
    return torch.where(mask_NT, centred_NT * torch.rsqrt(variance + 1e-8), 0.0)


def gae_NT(
    reward_NT: Tensor, value_NT: Tensor, mask_NT: Tensor, *, gamma: float, lam: float
) -> Tensor:
    """Estimate generalised advantages (arXiv 1506.02438, equations 11 and 16); (N, T).

    delta_t = r_t + gamma * V_{t+1} - V_t; A_t = delta_t + gamma * lam * A_{t+1}; V is 0 after the
    last token. 0 where padded.
    """
    value_NT = torch.where(mask_NT, value_NT, 0.0)
    advantage_NT = torch.zeros_like(value_NT)
    next_N = following_N = value_NT.new_zeros(len(value_NT))
    for t in reversed(range(value_NT.shape[1])):
        delta_N = reward_NT[:, t] + gamma * next_N - value_NT[:, t]
        following_N = torch.where(mask_NT[:, t], delta_N + gamma * lam * following_N, 0.0)
        advantage_NT[:, t], next_N = following_N, value_NT[:, t]
    return advantage_NT


def at_last_token_NT(value_N: Tensor, mask_NT: Tensor) -> Tensor:
    """Place a value per rollout at its last token; (N, T), 0 elsewhere."""
    last_N1 = mask_NT.sum(1, keepdim=True) - 1
    spread_NT = torch.zeros(mask_NT.shape, dtype=value_N.dtype, device=value_N.device)
    return spread_NT.scatter(1, last_N1, value_N[:, None])


def step_rewards(rollouts: Rollouts) -> StepRewards:
    """Return the rewards inside the responses; without any, each score at the last token."""
    if rollouts.steps is not None:
        return rollouts.steps
    mask_NT, score_N = rollouts.mask_NT, rollouts.score_N
    last_NT = at_last_token_NT(torch.ones_like(score_N), mask_NT).bool()
    return StepRewards(at_last_token_NT(score_N, mask_NT), last_NT)


def to_go_NT(reward_NT: Tensor) -> Tensor:
    """Sum the rewards from each token to the end of its rollout; (N, T), 0 where padded."""
    return reward_NT.flip(1).cumsum(1).flip(1)


def response_credit_NT(rollouts: Rollouts, penalty_N: Tensor, baseline_N: Tensor) -> Tensor:
    """Credit each token with the rewards from it on, less a penalty and a baseline per response.

    Args:
        rollouts: the batch; a score without rewards inside counts for every token.
        penalty_N: KL penalty of the whole response.
        baseline_N: baseline of the whole response's reward.

    Returns:
        Advantage of each token; (N, T), 0 where padded.
    """
    ahead_NT = to_go_NT(step_rewards(rollouts).reward_NT)
    credit_NT = ahead_NT - penalty_N[:, None] - baseline_N[:, None]
    return torch.where(rollouts.mask_NT, credit_NT, 0.0)


def seen_so_far(state: CreditState, reward_N: Tensor) -> CreditState:
    """Add rewards to the running mean and variance of a state (Chan, Golub & LeVeque, 1979)."""
    count = len(reward_N)
    mean = float(reward_N.mean())
    squares = float(((reward_N - mean) ** 2).sum())
    total = state.count + count
    step = mean - state.mean
    return replace(
        state,
        count=total,
        mean=state.mean + step * count / total,
        squares=state.squares + squares + step**2 * state.count * count / total,
    )


def group_sums(value_N: Tensor, group_N: Tensor) -> Tensor:
    """Sum values over each group's rollouts; (B,)."""
    groups = int(group_N[-1]) + 1
    return value_N.new_zeros(groups).index_add(0, group_N, value_N)


def group_extreme(steps: StepRewards, group_N: Tensor, how: Literal["amax", "amin"]) -> Tensor:
    """Return the largest or smallest reward of a step in each group; (B,)."""
    none = -torch.inf if how == "amax" else torch.inf
    rewards_NT = steps.reward_NT.masked_fill(~steps.step_NT, none)
    of_N = rewards_NT.amax(1) if how == "amax" else rewards_NT.amin(1)
    extreme_B = of_N.new_full((int(group_N[-1]) + 1,), none)
    return extreme_B.scatter_reduce(0, group_N, of_N, how)


def rollout_metrics(rollouts: Rollouts, reward_N: Tensor, state: CreditState) -> dict[str, Tensor]:
    """Return metrics of a batch under TRL's names; one value per rollout.

    Args:
        reward_N: rewards less the KL penalty.
        state: state of the batch, for its KL coefficient.
    """
    kl_N = kl_NT(rollouts, "k1").sum(1)
    entropy_N = -torch.where(rollouts.mask_NT, rollouts.policy_NT, 0.0).sum(1)
    return {
        "objective/kl": kl_N,
        "objective/entropy": entropy_N,
        "objective/rlhf_reward": reward_N,
        "objective/kl_coef": torch.tensor([state.kl_coef], dtype=torch.float64),
    }


class Clipped(NamedTuple):
    """Clipped loss per element."""

    loss: Tensor
    bounded: Tensor
    """True where the clipped term is the larger one."""


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, *, low: float, high: float) -> Clipped:
    """Compute PPO's clipped loss (arXiv 1707.06347, equation 7), elementwise.

    -min(ratio * A, clip(ratio, 1 - low, 1 + high) * A)
    """
    ratio = log_ratio.exp()
    free, bound = -advantage * ratio, -advantage * ratio.clamp(1 - low, 1 + high)
    return Clipped(torch.maximum(free, bound), (bound > free).detach())


def policy_metrics(given: RolloutLogps, surrogate: Clipped) -> dict[str, Tensor]:
    """Return metrics of an update, relative to the policy that drew the tokens."""
    moved_R = (given.policy_R - given.old_R).detach()
    return {
        "policy/approxkl": moved_R**2 / 2,
        "policy/clipfrac": surrogate.bounded.double(),
        "loss/policy": surrogate.loss.detach(),
        "val/ratio": moved_R.exp(),
    }


def over_tokens(loss_R: Tensor, given: RolloutLogps, metrics: dict[str, Tensor]) -> ObjectiveOutput:
    """Reduce token losses to their mean over all tokens of a step."""
    token_R = given.group_N[given.sequence_R]
    count_B = group_sums(torch.ones_like(loss_R), token_R)
    return ObjectiveOutput(group_sums(loss_R, token_R) / count_B, metrics, count_B)


def over_rollouts(
    loss_N: Tensor, given: RolloutLogps, metrics: dict[str, Tensor]
) -> ObjectiveOutput:
    """Reduce rollout losses to their mean over all rollouts of a step."""
    count_B = group_sums(torch.ones_like(loss_N), given.group_N)
    return ObjectiveOutput(group_sums(loss_N, given.group_N) / count_B, metrics, count_B)


def rollout_sums(value_R: Tensor, given: RolloutLogps) -> Tensor:
    """Sum values over each rollout's tokens, in float64; (N,)."""
    total_N = torch.zeros(len(given.group_N), dtype=torch.float64, device=value_R.device)
    return total_N.index_add(0, given.sequence_R, value_R.double())


def rollout_means(value_R: Tensor, given: RolloutLogps) -> Tensor:
    """Average values over each rollout's tokens, in float64; (N,)."""
    return rollout_sums(value_R, given) / rollout_sums(torch.ones_like(value_R), given)
