"""Kahneman-Tversky optimisation, KTO (arXiv 2402.01306, equation 8): unpaired labels.

h = log pi - log pi_ref; z = max(0, mean of h over mismatched pairs), an estimate of the KL from
the reference, without gradient. A desirable response costs
lambda_D * (1 - sigmoid(beta * (h - z))), an undesirable one
lambda_U * (1 - sigmoid(beta * (z - h))). The paper estimates z per micro-batch;
here it is that of the whole step, so that the split into micro-batches changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alignlab.configs import Bounded, Positive
from alignlab.objectives.base import LabelledLogps, Objective, ObjectiveOutput
from alignlab.registry import register


@register("objective", "kto")
@dataclass(frozen=True)
class KTO(Bounded, Objective):
    """Learn from responses that are each good or bad by themselves."""

    beta: Positive = 0.1
    """Strength of the pull to the reference, per nat; larger stays closer."""
    desirable_weight: Positive = 1.0
    """Weight (lambda_D) of desirable responses."""
    undesirable_weight: Positive = 1.0
    """Weight (lambda_U) of undesirable responses."""

    takes: ClassVar[type] = LabelledLogps
    needs_reference: ClassVar[bool] = True
    max_responses: ClassVar[int | None] = 2

    def __call__(self, logps: LabelledLogps) -> ObjectiveOutput:
        """Loss per response; rewards are beta times the log-ratios."""
        gap_M = logps.mismatched_policy_M - logps.mismatched_reference_M
        z = gap_M.mean().clamp(min=0).detach()
        good_B = logps.desirable_B
        ratio_B = logps.policy_B - logps.reference_B
        surprise_B = self.beta * torch.where(good_B, z - ratio_B, ratio_B - z)
        weight_B = torch.where(good_B, self.desirable_weight, self.undesirable_weight)
        reward_B = self.beta * ratio_B.detach()
        policy_B = logps.policy_B.detach()
        return ObjectiveOutput(
            # 1 - sigmoid(-s) = sigmoid(s), which keeps its digits where it is small.
            weight_B * torch.sigmoid(surprise_B),
            {
                "rewards/chosen": reward_B[good_B],
                "rewards/rejected": reward_B[~good_B],
                "logps/chosen": policy_B[good_B],
                "logps/rejected": policy_B[~good_B],
                "kl": z.expand(len(policy_B)),
            },
        )
