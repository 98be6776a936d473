"""Score responses with the logits over the whole vocabulary at every token, computed on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from alignlab.models.adapters import linear_head
from alignlab.models.head import at_least_float32
from alignlab.models.packed import Targets
from alignlab.models.scorer import ResponseScorer, TokenLogps, soft_cap


@dataclass(frozen=True)
class TokenLogits(TokenLogps):
    """Log-probability of every response token without gradient, and the logits at its position."""

    logits: Callable[[slice], Tensor]
    """Some response tokens -> logits (rows, V), with gradient, in float32 at least."""
    vocabulary: int
    """Columns of the logits."""


class LogitScorer(ResponseScorer):
    """Scorer of log-probabilities and logits, with the options of `Scorer`.

    Logits are computed when asked for, so that not all of a pass are in memory at once.
    """

    def _predicted(self, hidden_Rd: Tensor, targets: Targets) -> TokenLogits:
        with torch.no_grad():
            logps = super()._predicted(hidden_Rd, targets)
        head, cap = linear_head(self.base), soft_cap(self.base)
        assert head is not None
        hidden_Rd = hidden_Rd[: len(targets.token_R)]  # without the filling

        def logits(part: slice) -> Tensor:
            z_RV = at_least_float32(linear(hidden_Rd[part], head.weight_Vd, head.bias_V))
            return z_RV if cap is None else torch.tanh(z_RV / cap) * cap

        return TokenLogits(logps.logp_R, targets, logits, head.weight_Vd.shape[0])

    def _of_logits(self, logits_RV: Tensor, targets: Targets) -> TokenLogits:
        with torch.no_grad():
            logps = super()._of_logits(logits_RV, targets)
        return TokenLogits(logps.logp_R, targets, lambda part: logits_RV[part], logits_RV.shape[1])
