"""Contrastive preference optimisation, CPO (arXiv 2401.08417, equations 3 to 5).

DPO with a uniform reference, and imitation of the chosen response:

L = -log sigmoid(beta * (log pi(y_w) - log pi(y_l))) + alpha * NLL(y_w)

Assumes strict pairs. Departs from equation 5: the NLL is a token mean, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab.configs import Bounded, NonNegative, Positive
from alignlab.objectives.base import (
    GroupLogps,
    Objective,
    ObjectiveOutput,
    mean_nll_best_B,
    preference_metrics,
    softplus,
)
from alignlab.registry import register


@register("objective", "cpo")
@dataclass(frozen=True)
class CPO(Bounded, Objective):
    """Raise the chosen response over the rejected one, and imitate it; no reference."""

    beta: Positive = 0.1
    """Scale of the rewards, per nat."""
    nll_weight: NonNegative = 1.0
    """Weight (alpha) of the chosen response's token-mean negative log-likelihood."""

    max_responses: ClassVar[int | None] = 2

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the loss per pair in nats; rewards are beta times the summed log-probabilities."""
        reward_BK = self.beta * logps.policy_BK
        rank_B = softplus(reward_BK[:, 1] - reward_BK[:, 0])
        nll_B = mean_nll_best_B(logps)
        metrics = {**preference_metrics(logps, reward_BK), "nll_loss": nll_B.detach()}
        return ObjectiveOutput(rank_B + self.nll_weight * nll_B, metrics)
