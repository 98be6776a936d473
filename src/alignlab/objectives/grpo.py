"""Group-relative policy optimisation, GRPO (arXiv 2402.03300, equation 3).

Replace PPO's value head by the scores of a prompt's other responses. Advantage of every token of a
response: (score - mean) / (std + 1e-4) within the prompt's group. The loss is PPO's clipped loss
per token plus kl_coef times the k3 estimate of the KL from the reference.

Departures: `scale` "none" does not divide (Dr. GRPO, arXiv 2503.20783), "batch" divides by the
batch's std. The default reduction is the mean over all tokens of a step (DAPO, arXiv 2503.14476,
equation 8); `mean_over` "responses" is the paper's mean per response, then over responses, and
"constant" divides each response's sum by a constant (Dr. GRPO): a long wrong response is then not
punished less per token than a short one.

Rewards inside a response are normalised over all steps of the group, and a token's advantage is the
sum of those from it on (process supervision, arXiv 2402.03300, section 4.1.3); with one step at the
last token this is the rule for scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from alignlab.configs import Bounded, NonNegative, Positive, PositiveInt
from alignlab.errors import BadInput
from alignlab.objectives.base import ObjectiveOutput
from alignlab.objectives.credit import (
    clipped_surrogate,
    group_extreme,
    group_sums,
    kl_of,
    over_rollouts,
    over_tokens,
    policy_metrics,
    rollout_means,
    rollout_metrics,
    rollout_sums,
    step_rewards,
    to_go_NT,
)
from alignlab.objectives.rollout_batch import (
    Credit,
    CreditState,
    PolicyGradient,
    RolloutLogps,
    Rollouts,
)
from alignlab.registry import register


@register("objective", "grpo")
@dataclass(frozen=True)
class GRPO(Bounded, PolicyGradient):
    """Raise responses whose score is above their group's mean, in units of the group's std."""

    kl_coef: NonNegative = 0.0
    """Weight of the KL from the reference in the loss, per nat and token; 0.04 in the paper."""
    clip: Positive = 0.2
    """Lower bound of a token's ratio in the clipped loss, as 1 - clip."""
    clip_high: Positive | None = None
    """Upper bound of the ratio, as 1 + clip_high; none uses `clip` (0.28 in arXiv 2503.14476)."""
    scale: Literal["group", "batch", "none"] = "group"
    """Std that advantages are divided by: that of the group, of the batch, or none."""
    mean_over: Literal["tokens", "responses", "constant"] = "tokens"
    """Reduction of the loss: each token weighs the same; or each response; or sums of tokens over
    `divisor`, then each response."""
    divisor: PositiveInt | None = None
    """Tokens that each response's sum is divided by with mean_over=constant, usually the rollouts'
    `max_tokens` (arXiv 2503.20783)."""

    group_relative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.divisor is None) != (self.mean_over != "constant"):
            found = "none" if self.divisor is None else f"{self.divisor}"
            raise BadInput(
                f"grpo: divisor: expected with mean_over=constant and only there, found {found} "
                f"with mean_over={self.mean_over}"
            )

    def start(self) -> CreditState:
        """Return the state before the first batch."""
        return CreditState(kl_coef=self.kl_coef)

    def credit(self, rollouts: Rollouts, state: CreditState) -> Credit:
        """Credit every token with the rewards from it on, each relative to the group's."""
        steps, group_N = step_rewards(rollouts), rollouts.group_N
        count_B = group_sums(steps.step_NT.sum(1).double(), group_N)
        mean_B = group_sums(steps.reward_NT.sum(1), group_N) / count_B
        # The mean of equal rewards can differ from them by a rounding error: 3 * 0.1 / 3 > 0.1.
        varied_B = group_extreme(steps, group_N, "amax") > group_extreme(steps, group_N, "amin")
        counts_NT = steps.step_NT & varied_B[group_N][:, None]
        centred_NT = torch.where(counts_NT, steps.reward_NT - mean_B[group_N][:, None], 0.0)
        variance_B = group_sums((centred_NT**2).sum(1), group_N) / (count_B - 1)
        metrics = rollout_metrics(rollouts, rollouts.score_N, state)
        metrics["frac_reward_zero_std"] = (~varied_B).double()
        return Credit(
            to_go_NT(centred_NT / self._unit(variance_B, rollouts)[:, None]),
            None,
            metrics,
            state,
        )

    def __call__(self, given: RolloutLogps) -> ObjectiveOutput:
        """Return the loss per group, weighted by its tokens or its responses."""
        policy = clipped_surrogate(
            given.policy_R - given.old_R,
            given.advantage_R,
            low=self.clip,
            high=self.clip if self.clip_high is None else self.clip_high,
        )
        metrics, loss_R = policy_metrics(given, policy), policy.loss
        if self.kl_coef:
            loss_R = loss_R + self.kl_coef * kl_of(given.policy_R, given.reference_R, "k3")
        if self.mean_over == "tokens":
            return over_tokens(loss_R, given, metrics)
        if self.divisor is not None:
            return over_rollouts(rollout_sums(loss_R, given) / self.divisor, given, metrics)
        return over_rollouts(rollout_means(loss_R, given), given, metrics)

    def _unit(self, variance_B: Tensor, rollouts: Rollouts) -> Tensor:
        """Return the divisor of each rollout's advantage; (N,)."""
        if self.scale == "none":
            return torch.ones_like(rollouts.score_N)
        if self.scale == "batch":
            steps = step_rewards(rollouts)
            return (steps.reward_NT[steps.step_NT].std() + 1e-4).expand_as(rollouts.score_N)
        return (variance_B.sqrt() + 1e-4)[rollouts.group_N]
