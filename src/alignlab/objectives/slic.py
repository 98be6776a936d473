"""Sequence likelihood calibration, SLiC-HF (arXiv 2305.10425, equation 1).

Rank by likelihood with a margin, regularised by imitation; no reference:

L = max(0, margin - log pi(y_w) + log pi(y_l)) + lambda * NLL(y_w)

Assumes strict pairs. Both terms are sums over tokens, of one scale. Departs from the paper: the
regulariser's target is the chosen response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab.configs import Bounded, NonNegative
from alignlab.objectives.base import GroupLogps, Objective, ObjectiveOutput, preference_metrics
from alignlab.registry import register


@register("objective", "slic")
@dataclass(frozen=True)
class SLiC(Bounded, Objective):
    """Rank by likelihood with a margin, and stay near the chosen responses; no reference."""

    margin: NonNegative = 1.0
    """Margin between the summed log-probabilities, in nats."""
    nll_weight: NonNegative = 0.1
    """Weight (lambda) of the chosen response's negative log-likelihood."""

    max_responses: ClassVar[int | None] = 2

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the loss per pair in nats; rewards are the summed log-probabilities."""
        chosen_B, rejected_B = logps.policy_BK[:, 0], logps.policy_BK[:, 1]
        rank_B = (self.margin - chosen_B + rejected_B).clamp(min=0)
        loss_B = rank_B - self.nll_weight * chosen_B
        metrics = preference_metrics(logps, logps.policy_BK)
        return ObjectiveOutput(loss_B, {**metrics, "loss/rank": rank_B.detach()})
