"""Kahneman-Tversky optimisation, KTO (arXiv 2402.01306, equation 8).

Learn from unpaired labels: raise the prospect-theoretic value of desirable responses over a
reference point z, and lower that of undesirable ones. With h = log pi - log pi_ref,

L = lambda_D * (1 - sigmoid(beta * (h - z))) for a desirable response,
    lambda_U * (1 - sigmoid(beta * (z - h))) for an undesirable one

where z = max(0, mean of h over mismatched pairs) estimates the KL from the reference, without
gradient. Departs from the paper: z is estimated over the whole step instead of the micro-batch,
so that the split into micro-batches changes nothing.
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
    """Learn from single responses labelled desirable or undesirable."""

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
        """Return the loss per response; rewards are beta times the log-ratios."""
        gap_M = logps.mismatched_policy_M - logps.mismatched_reference_M
        z = gap_M.mean().clamp(min=0).detach()
        good_B = logps.desirable_B
        ratio_B = logps.policy_B - logps.reference_B
        surprise_B = self.beta * torch.where(good_B, z - ratio_B, ratio_B - z)
        weight_B = torch.where(good_B, self.desirable_weight, self.undesirable_weight)
        reward_B = self.beta * ratio_B.detach()
        policy_B = logps.policy_B.detach()
        return ObjectiveOutput(
            # sigmoid(s) = 1 - sigmoid(-s), without the cancellation near 0.
            weight_B * torch.sigmoid(surprise_B),
            {
                "rewards/chosen": reward_B[good_B],
                "rewards/rejected": reward_B[~good_B],
                "logps/chosen": policy_B[good_B],
                "logps/rejected": policy_B[~good_B],
                "kl": z.expand(len(policy_B)),
            },
        )
