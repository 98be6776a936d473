"""Odds ratio preference optimisation, ORPO (arXiv 2403.07691, equations 6 and 7).

SFT on the chosen response, with a penalty on the rejected one's odds; no reference:

L = NLL(y_w) - beta * log sigmoid(log odds(p_w) - log odds(p_l))

with p = exp(token-mean log-probability) and odds(p) = p / (1 - p). Assumes strict pairs. Departs
from TRL: the NLL is a token mean over the response alone, not over the prompt too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from alignlab.configs import Bounded, Positive
from alignlab.objectives.base import (
    GroupLogps,
    Objective,
    ObjectiveOutput,
    mean_nll_best_B,
    preference_metrics,
    softplus,
)
from alignlab.registry import register


@register("objective", "orpo")
@dataclass(frozen=True)
class ORPO(Bounded, Objective):
    """Imitate the chosen response and raise its odds over the rejected one's; no reference."""

    beta: Positive = 0.1
    """Weight (the paper's lambda) of the odds-ratio term."""

    max_responses: ClassVar[int | None] = 2

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the loss per pair in nats; rewards are beta times token-mean log-probabilities."""
        p_BK = logps.policy_BK / logps.length_BK
        odds_BK = p_BK - _log1mexp(p_BK)
        log_odds_B = odds_BK[:, 0] - odds_BK[:, 1]
        rank_B = softplus(-log_odds_B)
        nll_B = mean_nll_best_B(logps)
        metrics = {
            **preference_metrics(logps, self.beta * p_BK),
            "nll_loss": nll_B.detach(),
            "log_odds_ratio": -rank_B.detach(),
            "log_odds_chosen": log_odds_B.detach(),
        }
        return ObjectiveOutput(nll_B + self.beta * rank_B, metrics)


def _log1mexp(logp: Tensor) -> Tensor:
    """Compute log(1 - exp(x)) for x < 0 without cancellation; x = 0 is moved to -1e-12."""
    x = logp.clamp(max=-1e-12)
    near = x > -0.6931471805599453
    # Each branch gets a harmless value where the other is used, so that no gradient is NaN.
    small = torch.log(-torch.expm1(torch.where(near, x, -1.0)))
    large = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return torch.where(near, small, large)
