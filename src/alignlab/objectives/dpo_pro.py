"""DPO x PRO: the listwise Plackett-Luce likelihood over DPO's implicit rewards.

Fit the whole order of a group's responses, best first (arXiv 2305.18290, appendix A.3, equation
20), with h = log pi - log pi_ref:

L = -sum_{k<K} log( exp(beta * h_k) / sum_{i>=k} exp(beta * h_i) )

Assumes an order without ties. With K = 2 it equals DPO.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab.configs import Bounded, Positive
from alignlab.objectives.base import (
    GroupLogps,
    Objective,
    ObjectiveOutput,
    log_ratios_BK,
    plackett_luce_nll_B,
    preference_metrics,
)
from alignlab.registry import register


@register("objective", "dpo_pro")
@dataclass(frozen=True)
class DPOPRO(Bounded, Objective):
    """Fit the whole order of a group's responses, relative to the reference."""

    beta: Positive = 0.1
    """Strength of the pull to the reference, per nat; larger stays closer."""

    needs_reference: ClassVar[bool] = True

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the loss per group in nats; rewards are beta times the log-ratios."""
        reward_BK = self.beta * log_ratios_BK(logps)
        loss_B = plackett_luce_nll_B(reward_BK, logps.mask_BK)
        return ObjectiveOutput(loss_B, preference_metrics(logps, reward_BK))
