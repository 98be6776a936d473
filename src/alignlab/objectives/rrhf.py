"""Rank responses to align human feedback, RRHF (arXiv 2304.05302, equations 2 to 4).

Rank any number of responses by likelihood, and imitate the best; no reference. With p the
length-normalised log-probability,

L = sum over (i worse than j) of max(0, p_i - p_j) + summed NLL(best)

Equal scores make no pair and add nothing. Departure `weights="authors"`, the loss of the authors'
code: 100 * rank plus the summed NLL of the best divided by the length of its padded sequence,
prompt included. That code takes one group per batch: the padded length is that of the group's
longest sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from alignlab.configs import Bounded, NonNegative
from alignlab.errors import BadInput
from alignlab.objectives.base import GroupLogps, Objective, ObjectiveOutput, preference_metrics
from alignlab.registry import register


@register("objective", "rrhf")
@dataclass(frozen=True)
class RRHF(Bounded, Objective):
    """Order any number of responses by likelihood, and imitate the best; no reference."""

    nll_weight: NonNegative = 1.0
    """Weight of the best response's summed negative log-likelihood; for weights=paper."""
    weights: Literal["paper", "authors"] = "paper"
    """Weights of the two terms: those of the paper, or of its authors' code."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights == "authors" and self.nll_weight != 1:
            raise BadInput("rrhf: nll_weight: has no effect with weights=authors; leave it out")

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the loss per group in nats; rewards are token-mean log-probabilities."""
        p_BK = logps.policy_BK / logps.length_BK
        better_BKK = logps.score_BK[:, :, None] > logps.score_BK[:, None, :]
        real_BKK = logps.mask_BK[:, :, None] & logps.mask_BK[:, None, :]
        excess_BKK = (p_BK[:, None, :] - p_BK[:, :, None]).clamp(min=0)
        rank_B = torch.where(better_BKK & real_BKK, excess_BKK, 0.0).sum((1, 2))
        nll_B = -logps.policy_BK[:, 0]
        if self.weights == "authors":
            if logps.longest_B is None:
                raise ValueError("the authors' weights need the groups' lengths; none were given")
            loss_B = 100 * rank_B + nll_B / logps.longest_B
        else:
            loss_B = rank_B + self.nll_weight * nll_B
        metrics = preference_metrics(logps, p_BK)
        return ObjectiveOutput(loss_B, {**metrics, "loss/rank": rank_B.detach()})
