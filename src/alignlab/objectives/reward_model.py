"""Reward modelling from preferences (arXiv 2203.02155, equation 1; Bradley & Terry, 1952).

Fit a scalar reward r by the likelihood of each better response w over each worse one l:

L = -log sigmoid(r_w - r_l - m) + c * (r_w + r_l)^2

The margin m is fixed or grows with the difference of the scores (arXiv 2307.09288, equation 2);
the second term centres rewards at 0 (arXiv 2312.09244). A group's loss is the mean over its pairs;
equal scores make no pair. A soft label, the probability p that w is the better response, replaces
the first term by its expectation over both orders (arXiv 2309.00267). Departure:
`plackett_luce` replaces the first term by the likelihood of the whole order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from alignlab.configs import Bounded, NonNegative
from alignlab.errors import BadInput
from alignlab.objectives.base import (
    GroupRewards,
    Objective,
    ObjectiveOutput,
    plackett_luce_nll_B,
    reward_metrics,
    softplus,
)
from alignlab.registry import register


@register("objective", "reward_model")
@dataclass(frozen=True)
class RewardModel(Bounded, Objective):
    """Fit a scalar head so that better responses have higher rewards."""

    margin: NonNegative = 0.0
    """Margin between the rewards of every pair."""
    margin_per_score: NonNegative = 0.0
    """Further margin per unit of difference between the feedback scores."""
    centre: NonNegative = 0.0
    """Weight (c) of the squared sum of a pair's rewards; usually 0.01."""
    plackett_luce: bool = False
    """Fit the order of the whole group instead of all its pairs."""

    takes: ClassVar[type] = GroupRewards
    soft_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plackett_luce and (self.margin or self.margin_per_score):
            raise BadInput("reward_model: a margin has no effect with plackett_luce; leave it out")

    def __call__(self, given: GroupRewards) -> ObjectiveOutput:
        """Return the loss per group in nats; pairwise, it is 0 where all scores are equal."""
        r_BK, p_B = given.reward_BK, given.probability_B
        gap_BKK = given.score_BK[:, :, None] - given.score_BK[:, None, :]
        pair_BKK = (gap_BKK > 0) & given.mask_BK[:, :, None] & given.mask_BK[:, None, :]
        if self.plackett_luce:
            rank_B = plackett_luce_nll_B(r_BK, given.mask_BK)
            if p_B is not None:  # of two responses, both orders' losses differ by their rewards
                rank_B = rank_B + (1 - p_B) * (r_BK[:, 0] - r_BK[:, 1])
        else:
            wanted_BKK = self.margin + self.margin_per_score * gap_BKK
            short_BKK = wanted_BKK - (r_BK[:, :, None] - r_BK[:, None, :])
            nll_BKK = softplus(short_BKK)
            if p_B is not None:
                p_B11 = p_B[:, None, None]
                flipped_BKK = softplus(2 * wanted_BKK - short_BKK)
                nll_BKK = p_B11 * nll_BKK + (1 - p_B11) * flipped_BKK
            rank_B = _mean_over_pairs_B(nll_BKK, pair_BKK)
        loss_B = rank_B
        if self.centre:
            sum_BKK = r_BK[:, :, None] + r_BK[:, None, :]
            loss_B = loss_B + self.centre * _mean_over_pairs_B(sum_BKK**2, pair_BKK)
        shown_BK = torch.where(given.mask_BK, r_BK.detach(), 0.0)
        mean_B = shown_BK.sum(1) / given.mask_BK.sum(1)
        metrics = {**reward_metrics(r_BK, given.mask_BK), "mean_reward": mean_B}
        return ObjectiveOutput(loss_B, metrics)


def _mean_over_pairs_B(value_BKK: Tensor, pair_BKK: Tensor) -> Tensor:
    """Average values over a group's pairs (better, worse); (B,), 0 where there is none."""
    count_B = pair_BKK.sum((1, 2)).clamp(min=1)
    return torch.where(pair_BKK, value_BKK, 0.0).sum((1, 2)) / count_B
