"""Direct preference optimisation, DPO (arXiv 2305.18290, equation 7).

Raise the chosen response over the rejected one without a reward model, by the Bradley-Terry
likelihood of the policy's implicit reward:

L = -log sigmoid(beta * delta), delta the difference of the log-ratios of chosen and rejected

Assumes a fixed reference. Variants of the paper's loss: with label smoothing eps ("conservative"),
(1-eps) * L(delta) + eps * L(-delta); robust (arXiv 2403.00409, equation 12),
[(1-eps) * L(delta) - eps * L(-delta)] / (1 - 2 eps),
an unbiased estimate of the loss without label noise of rate eps. A soft label, the probability p
that the chosen response is the better one, replaces L(delta) by p * L(delta) + (1-p) * L(-delta)
(arXiv 2309.00267).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from alignlab.configs import Bounded, NonNegative, Positive
from alignlab.errors import BadInput
from alignlab.objectives.base import (
    GroupLogps,
    Objective,
    ObjectiveOutput,
    log_ratios_BK,
    mean_nll_best_B,
    preference_metrics,
    softplus,
)
from alignlab.registry import register


@register("objective", "dpo")
@dataclass(frozen=True)
class DPO(Bounded, Objective):
    """Raise the chosen response over the rejected one, relative to the reference."""

    beta: Positive = 0.1
    """Strength of the pull to the reference, per nat; larger stays closer."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Assumed share of flipped preference labels, in [0, 0.5)."""
    robust: bool = False
    """Correct the loss for flipped labels without bias, instead of smoothing."""
    nll_weight: NonNegative = 0.0
    """Weight of the chosen response's token-mean negative log-likelihood, which keeps off-policy
    chosen responses likely (arXiv 2404.19733, equation 1)."""

    needs_reference: ClassVar[bool] = True
    max_responses: ClassVar[int | None] = 2
    soft_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.robust and self.label_smoothing == 0:
            raise BadInput("dpo: robust: expected label_smoothing > 0 with it, found 0")

    def rewards_BK(self, logps: GroupLogps) -> Tensor:
        """Return the implicit rewards, beta times the log-ratios; (B, K)."""
        return self.beta * log_ratios_BK(logps)

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the loss per pair in nats; rewards are beta times the log-ratios."""
        reward_BK = self.rewards_BK(logps)
        logit_B = reward_BK[:, 0] - reward_BK[:, 1]
        eps = self.label_smoothing
        right_B, flipped_B = softplus(-logit_B), softplus(logit_B)
        if (p_B := logps.probability_B) is not None:
            right_B, flipped_B = (
                p_B * right_B + (1 - p_B) * flipped_B,
                p_B * flipped_B + (1 - p_B) * right_B,
            )
        if self.robust:
            loss_B = ((1 - eps) * right_B - eps * flipped_B) / (1 - 2 * eps)
        elif eps:
            loss_B = (1 - eps) * right_B + eps * flipped_B
        else:
            loss_B = right_B
        if self.nll_weight:
            loss_B = loss_B + self.nll_weight * mean_nll_best_B(logps)
        return ObjectiveOutput(loss_B, preference_metrics(logps, reward_BK))
