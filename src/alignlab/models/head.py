"""The vocabulary head on chosen rows only, in chunks: never all logits at once.

log p(token) = z_token - logsumexp(z), z the logits of the row. The backward recomputes the logits
of a chunk unless they are few.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22
"""Logits computed at once."""


class _RowLogps(torch.autograd.Function):
    """Log-probability of a token per row; hidden (R, d), weight (V, d), bias (V) or None."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_Rd: Tensor,
        weight_Vd: Tensor,
        bias_V: Tensor | None,
        token_R: Tensor,
        softcap: float | None,
    ) -> Tensor:
        rows = _rows_at_once(weight_Vd)
        logps: list[Tensor] = []
        for start in range(0, len(token_R), rows):
            part = slice(start, start + rows)
            logits = _logits(hidden_Rd[part], weight_Vd, bias_V, softcap)
            # In one pass over the logits, which logsumexp is not.
            logps.append(torch.log_softmax(logits, dim=1).gather(1, token_R[part, None])[:, 0])
        ctx.softcap, ctx.rows = softcap, rows
        ctx.kept = logits if len(logps) == 1 else None
        ctx.save_for_backward(hidden_Rd, weight_Vd, bias_V, token_R)
        return torch.cat(logps)

    @staticmethod
    def backward(ctx: Any, grad_R: Tensor) -> Any:
        hidden_Rd, weight_Vd, bias_V, token_R = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden_Rd)
        needs_weight = ctx.needs_input_grad[1]
        d_weight = torch.zeros_like(weight_Vd, dtype=torch.float32) if needs_weight else None
        d_bias = torch.zeros_like(bias_V, dtype=torch.float32) if bias_V is not None else None
        for start in range(0, len(token_R), ctx.rows):
            part = slice(start, start + ctx.rows)
            logits = ctx.kept
            if logits is None:
                logits = _logits(hidden_Rd[part], weight_Vd, bias_V, ctx.softcap)
            d_logits = _d_logits(logits, token_R[part], grad_R[part], ctx.softcap)
            if d_bias is not None:
                d_bias += d_logits.sum(0)
            d_logits = d_logits.to(hidden_Rd.dtype)
            torch.mm(d_logits, weight_Vd, out=d_hidden[part])
            if d_weight is not None:
                d_weight += torch.mm(d_logits.T, hidden_Rd[part])
        ctx.kept = None
        return (
            d_hidden,
            None if d_weight is None else d_weight.to(weight_Vd.dtype),
            None if d_bias is None or bias_V is None else d_bias.to(bias_V.dtype),
            None,
            None,
        )


def row_logps(
    hidden_Rd: Tensor,
    weight_Vd: Tensor,
    bias_V: Tensor | None,
    token_R: Tensor,
    *,
    softcap: float | None = None,
) -> Tensor:
    """Log-probability in nats of one token per row, (R,) in float32.

    Args:
        hidden_Rd: hidden states that predict.
        weight_Vd: the head's weight.
        bias_V: the head's bias, if any.
        token_R: the predicted tokens.
        softcap: logits z become cap * tanh(z / cap), as in Gemma 2.
    """
    found: Tensor = _RowLogps.apply(  # type: ignore[no-untyped-call]
        hidden_Rd, weight_Vd, bias_V, token_R, softcap
    )
    return found


def _rows_at_once(weight_Vd: Tensor) -> int:
    return max(1, CHUNK_ELEMENTS // weight_Vd.shape[0])


def _logits(
    hidden_Rd: Tensor, weight_Vd: Tensor, bias_V: Tensor | None, softcap: float | None
) -> Tensor:
    """Logits in float32 at least."""
    logits = torch.nn.functional.linear(hidden_Rd, weight_Vd, bias_V)
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return logits if softcap is None else torch.tanh(logits.div_(softcap)).mul_(softcap)


def _d_logits(logits_RV: Tensor, token_R: Tensor, grad_R: Tensor, softcap: float | None) -> Tensor:
    """Gradient of the logits before the cap: grad * (onehot - softmax), in their type."""
    d_logits = torch.softmax(logits_RV, dim=1).mul_(-grad_R[:, None])
    d_logits.scatter_add_(1, token_R[:, None], grad_R[:, None].to(d_logits.dtype))
    if softcap is not None:
        d_logits.mul_(1 - (logits_RV / softcap) ** 2)
    return d_logits
