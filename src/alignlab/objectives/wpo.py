"""Weighted preference optimisation, WPO (arXiv 2406.11827).

Make off-policy pairs count as they would on-policy: weigh DPO's loss of a pair by w(y_w) * w(y_l),
without gradient, where w is close to 1 for a response that the policy itself would sample:

w(y) = exp( mean_t [ log pi(y_t) - log sum_v pi(v)^2 ] )

The second term is the log of a token's expected probability under the policy ("sampled alignment"),
so that sampled tokens weigh about 1. The weights change with the policy at every step. A step
divides by the number of its pairs, not by their weights. No departures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab.objectives.base import ObjectiveOutput, WeightedLogps
from alignlab.objectives.dpo import DPO
from alignlab.registry import register


@register("objective", "wpo")
@dataclass(frozen=True)
class WPO(DPO):
    """DPO whose pairs weigh by how likely the policy itself would write them."""

    takes: ClassVar[type] = WeightedLogps

    def __call__(self, logps: WeightedLogps) -> ObjectiveOutput:  # type: ignore[override]
        """Return the weighted loss per pair in nats; the metric `weights` is its weight."""
        output = super().__call__(logps)
        weight_B = logps.weight_BK.prod(1)
        return ObjectiveOutput(weight_B * output.loss_B, {**output.metrics, "weights": weight_B})
