"""Simple preference optimisation, SimPO (arXiv 2405.14734, equation 6).

Prefer by length-normalised likelihood, the quantity that generation ranks by; no reference:

L = -log sigmoid(beta * (p_w - p_l) - gamma), p the length-normalised log-probability

Assumes strict pairs. No departures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab.configs import Bounded, NonNegative, Positive
from alignlab.objectives.base import (
    GroupLogps,
    Objective,
    ObjectiveOutput,
    preference_metrics,
    softplus,
)
from alignlab.registry import register


@register("objective", "simpo")
@dataclass(frozen=True)
class SimPO(Bounded, Objective):
    """Raise the chosen response's mean log-probability over the rejected one's; no reference."""

    beta: Positive = 2.0
    """Scale of the rewards, per nat and token; the paper uses 2 to 10."""
    gamma: NonNegative = 1.0
    """Margin between the rewards; the paper uses 0.3 to 0.5 of beta."""

    max_responses: ClassVar[int | None] = 2

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the loss per pair in nats; rewards are beta times token-mean log-probabilities."""
        reward_BK = self.beta * logps.policy_BK / logps.length_BK
        loss_B = softplus(self.gamma - reward_BK[:, 0] + reward_BK[:, 1])
        return ObjectiveOutput(loss_B, preference_metrics(logps, reward_BK))
