"""Identity preference optimisation, IPO (arXiv 2310.12036, equation 17).

Regress the preference margin on a fixed target, so that deterministic preferences do not drive it
to infinity:

L = (delta - 1 / (2 beta))^2, delta the difference of the log-ratios of chosen and rejected

Assumes strict pairs. Departs by default: log-ratios are token means, as the authors advised TRL;
`summed` restores the paper's sums.
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


@register("objective", "ipo")
@dataclass(frozen=True)
class IPO(Bounded, Objective):
    """Move the difference of log-ratios to a fixed target."""

    beta: Positive = 0.1
    """Strength of the pull to the reference: the target difference is 1 / (2 beta) nats."""
    summed: bool = False
    """Use sums over the response's tokens instead of means."""

    needs_reference: ClassVar[bool] = True
    max_responses: ClassVar[int | None] = 2

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the squared distance per pair; rewards are beta times the summed log-ratios."""
        ratio_BK = log_ratios_BK(logps)
        used_BK = ratio_BK if self.summed else ratio_BK / logps.length_BK
        loss_B = (used_BK[:, 0] - used_BK[:, 1] - 1 / (2 * self.beta)) ** 2
        return ObjectiveOutput(loss_B, preference_metrics(logps, self.beta * ratio_BK))
