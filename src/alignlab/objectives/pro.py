"""Preference ranking optimisation, PRO (arXiv 2306.17492, equations 5 to 9).

Contrast each response with all worse ones, and imitate the best; no reference. With r the
length-normalised log-probability,

L = -sum_{k<K} log( exp(r_k / T_kk) / sum_{i>=k} exp(r_i / T_ki) ) + beta * NLL(best)

Temperatures are 1, or come from the scores s: 1 / T_ki = s_k - s_i, and 1 / T_kk is the largest of
the 1 / T_ki (equation 8). A step k at which all later scores equal s_k is then no order and adds
nothing.

Departure `weights="authors"`, the loss of the authors' code: temperatures always from the scores,
and 0.05 * (K - 1)^2 times the *summed* NLL of the best, K the group's responses: 180 times the
paper's term of 0.05 times a token mean, at K = 4 and 20 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from alignlab.configs import Bounded, NonNegative
from alignlab.errors import BadInput
from alignlab.objectives.base import (
    GroupLogps,
    Objective,
    ObjectiveOutput,
    mean_nll_best_B,
    plackett_luce_nll_B,
    preference_metrics,
)
from alignlab.registry import register


@register("objective", "pro")
@dataclass(frozen=True)
class PRO(Bounded, Objective):
    """Contrast each response with all worse ones, and imitate the best; no reference."""

    nll_weight: NonNegative = 0.05
    """Weight (beta) of the best response's token-mean negative log-likelihood; with
    weights=authors, the factor of (K - 1)^2 and its summed one."""
    score_temperatures: bool = False
    """Sharpen the contrast of two responses by the difference of their scores."""
    weights: Literal["paper", "authors"] = "paper"
    """Loss of the paper, or of its authors' code, which includes score_temperatures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights == "authors" and self.score_temperatures:
            raise BadInput("pro: score_temperatures: is part of weights=authors; leave it out")

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the loss per group in nats; rewards are token-mean log-probabilities."""
        r_BK = logps.policy_BK / logps.length_BK
        if self.score_temperatures or self.weights == "authors":
            rank_B = _with_temperatures_B(r_BK, logps.score_BK, logps.mask_BK)
        else:
            rank_B = plackett_luce_nll_B(r_BK, logps.mask_BK)
        if self.weights == "authors":
            nll_B = -((logps.mask_BK.sum(1) - 1) ** 2) * logps.policy_BK[:, 0]
        else:
            nll_B = mean_nll_best_B(logps)
        loss_B = rank_B + self.nll_weight * nll_B
        metrics = preference_metrics(logps, r_BK)
        return ObjectiveOutput(loss_B, {**metrics, "loss/rank": rank_B.detach()})


def _with_temperatures_B(r_BK: Tensor, score_BK: Tensor, mask_BK: Tensor) -> Tensor:
    """Return the Plackett-Luce loss with response i at sharpness s_k - s_i in step k; (B,)."""
    K = r_BK.shape[1]
    loss_B = r_BK.new_zeros(r_BK.shape[0])
    for k in range(K - 1):
        later_BI = mask_BK[:, k + 1 :]
        sharp_BI = torch.where(later_BI, score_BK[:, k, None] - score_BK[:, k + 1 :], 0.0)
        own_B = sharp_BI.max(1).values
        head_B = own_B * r_BK[:, k]
        tail_BI = (sharp_BI * r_BK[:, k + 1 :]).masked_fill(~later_BI, -torch.inf)
        all_BI = torch.cat([head_B[:, None], tail_BI], dim=1)
        ordered_B = own_B > 0
        step_B = torch.logsumexp(all_BI, dim=1) - head_B
        loss_B = loss_B + torch.where(ordered_B, step_B, 0.0)
    return loss_B
