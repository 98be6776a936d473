"""Length-desensitised DPO, LD-DPO (arXiv 2409.06411).

Sums of log-probabilities grow with length, so that DPO's gradient favours longer responses. Tokens
that follow the length of the pair's shorter response weigh alpha in both responses' log-ratios:

log pi_ld(y) = sum_{t<=m} log pi(y_t) + alpha * sum_{t>m} log pi(y_t), m = min(|y_w|, |y_l|)

The loss is DPO's of these sums, under policy and reference. alpha = 1 is DPO; alpha = 0 compares
equal numbers of tokens. Departure: `nll_weight` and the metrics `logps/` are of whole responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from alignlab.configs import Fraction
from alignlab.objectives.base import GroupLogps, TailedLogps, log_ratios_BK
from alignlab.objectives.dpo import DPO
from alignlab.registry import register


@register("objective", "ld_dpo")
@dataclass(frozen=True)
class LDDPO(DPO):
    """DPO in which tokens past the shorter response's length weigh less."""

    alpha: Fraction = 0.5
    """Weight of the tokens past the shorter response's length, in [0, 1]; 1 is DPO."""

    takes: ClassVar[type] = TailedLogps

    def rewards_BK(self, logps: GroupLogps) -> Tensor:
        """Return beta times the length-desensitised log-ratios; (B, K)."""
        assert isinstance(logps, TailedLogps)
        tail_BK = logps.tail_BK - logps.reference_tail_BK
        return self.beta * (log_ratios_BK(logps) - (1 - self.alpha) * tail_BK)
