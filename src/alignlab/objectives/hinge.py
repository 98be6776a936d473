"""Hinge loss over log-ratios, RSO's hinge-norm (arXiv 2309.06657, equation 9).

Push chosen and rejected apart up to a margin, as SLiC-HF does, relative to a reference:

L = max(0, 1 - beta * delta), delta the difference of the log-ratios of chosen and rejected

Assumes strict pairs. No departures.
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
    preference_metrics,
)
from alignlab.registry import register


@register("objective", "hinge")
@dataclass(frozen=True)
class Hinge(Bounded, Objective):
    """Raise chosen over rejected until they are a margin apart."""

    beta: Positive = 0.1
    """Inverse margin: the loss is 0 from a difference of 1 / beta nats on."""

    needs_reference: ClassVar[bool] = True
    max_responses: ClassVar[int | None] = 2

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the loss per pair; rewards are beta times the log-ratios."""
        reward_BK = self.beta * log_ratios_BK(logps)
        loss_B = (1 - reward_BK[:, 0] + reward_BK[:, 1]).clamp(min=0)
        return ObjectiveOutput(loss_B, preference_metrics(logps, reward_BK))
