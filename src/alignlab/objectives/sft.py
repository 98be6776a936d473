"""Supervised fine-tuning, SFT (arXiv 2203.02155, section 3.5): imitate demonstrations.

L = -sum_t log pi(y_t | x, y_<t) / number of tokens, over the response's tokens alone. Assumes that
every demonstration is worth imitating. Every target token of a step weighs the same: a group's
loss is its token mean, its weight its number of tokens. NEFTune's noise is an option of the
training loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab.objectives.base import GroupLogps, Objective, ObjectiveOutput, mean_nll_best_B
from alignlab.registry import register


@register("objective", "sft")
@dataclass(frozen=True)
class SFT(Objective):
    """Imitate the response of each group."""

    min_responses: ClassVar[int] = 1
    max_responses: ClassVar[int | None] = 1
    best_only: ClassVar[bool] = True

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the token-mean NLL in nats, weighted by tokens."""
        loss_B = mean_nll_best_B(logps)
        metrics = {"logps/chosen": logps.policy_BK[:, 0].detach()}
        return ObjectiveOutput(loss_B, metrics, weight_B=logps.length_BK[:, 0])
