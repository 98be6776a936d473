"""Score responses together with the expected probability of a token drawn in each position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from alignlab.models.adapters import linear_head
from alignlab.models.head import log_moment, row_moments
from alignlab.models.packed import Targets
from alignlab.models.scorer import ResponseScorer, TokenLogps, soft_cap


@dataclass(frozen=True)
class TokenMoments(TokenLogps):
    """Log-probability of every response token, and the second moment of its distribution."""

    moment_R: Tensor
    """log sum_v p(v)^2 in nats at the token's position, without gradient."""


class MomentScorer(ResponseScorer):
    """Scorer of log-probabilities and second moments, with the options of `Scorer`."""

    def _predicted(self, hidden_Rd: Tensor, targets: Targets) -> TokenMoments:
        logps = super()._predicted(hidden_Rd, targets)
        head = linear_head(self.base)
        assert head is not None
        moment_R = row_moments(hidden_Rd, head.weight_Vd, head.bias_V, softcap=soft_cap(self.base))
        return TokenMoments(logps.logp_R, targets, moment_R[: len(logps.logp_R)])

    def _of_logits(self, logits_RV: Tensor, targets: Targets) -> TokenMoments:
        logps = super()._of_logits(logits_RV, targets)
        with torch.no_grad():
            return TokenMoments(logps.logp_R, targets, log_moment(logits_RV))
