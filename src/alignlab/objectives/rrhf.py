"""Rank responses to align human feedback, RRHF (arXiv 2304.05302, equations 2 to 4).

p = length-normalised log-probability; L = sum over (i worse than j) of max(0, p_i - p_j) plus the
cross-entropy of the best response. Equal scores are no order and add nothing. The cross-entropy
is a mean over tokens, as in the authors' code; `nll_weight` scales it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alignlab.objectives.base import (
    GroupLogps,
    ObjectiveOutput,
    mean_nll_best_B,
    preference_metrics,
)
from alignlab.registry import register


@register("objective", "rrhf")
@dataclass(frozen=True)
class RRHF:
    """Order any number of responses by likelihood, and imitate the best; no reference."""

    nll_weight: float = 1.0
    """Weight of the best response's negative log-likelihood."""

    needs_reference: ClassVar[bool] = False
    min_responses: ClassVar[int] = 2
    max_responses: ClassVar[int | None] = None
    best_only: ClassVar[bool] = False

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Loss per group in nats per token; rewards are the length-normalised log-probabilities."""
        p_BK = logps.policy_BK / logps.length_BK
        better_BKK = logps.score_BK[:, :, None] > logps.score_BK[:, None, :]
        real_BKK = logps.mask_BK[:, :, None] & logps.mask_BK[:, None, :]
        excess_BKK = (p_BK[:, None, :] - p_BK[:, :, None]).clamp(min=0)
        rank_B = torch.where(better_BKK & real_BKK, excess_BKK, 0.0).sum((1, 2))
        loss_B = rank_B + self.nll_weight * mean_nll_best_B(logps)
        metrics = preference_metrics(logps, p_BK)
        return ObjectiveOutput(loss_B, {**metrics, "loss/rank": rank_B.detach()})
