"""The vocabulary head on chosen rows only, in panels: never all logits at once.

log p(token) = z_token - logsumexp(z), z the logits of the row. Its gradient with respect to z is
minus the residual e = softmax(z) - onehot(token). Residuals are made in the forward, while the
logits are at hand, and kept for the backward unless they are many; a row's own gradient then
scales hidden states, not logits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignlab.models.onednn import product

PANEL_ELEMENTS = 1 << 24
"""Logits of one matrix product."""
CHUNK_ELEMENTS = 1 << 20
"""Logits worked on in float32 at once: what fits a processor's cache."""
LEAST_ROWS = 256
"""Rows of a panel or chunk at least; fewer make poor matrix products."""
KEEP_BYTES = 1 << 28
"""Residuals up to this size are kept for the backward, more are made again."""


class _Head(NamedTuple):
    """Weights that turn hidden states into logits."""

    weight_Vd: Tensor
    bias_V: Tensor | None
    softcap: float | None


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
        head = _Head(weight_Vd, bias_V, softcap)
        size = len(token_R) * weight_Vd.shape[0] * hidden_Rd.element_size()
        needed = any(ctx.needs_input_grad)
        keeps = needed and size <= KEEP_BYTES
        logps: list[Tensor] = []
        ctx.kept = []
        for part in _parts(len(token_R), PANEL_ELEMENTS, weight_Vd):
            logp, residual = _panel(hidden_Rd[part], token_R[part], head, residuals=keeps)
            logps.append(logp)
            ctx.kept.append(residual)
        ctx.softcap = softcap
        ctx.save_for_backward(hidden_Rd, weight_Vd, bias_V, token_R)
        return torch.cat(logps)

    @staticmethod
    def backward(ctx: Any, grad_R: Tensor) -> Any:
        hidden_Rd, weight_Vd, bias_V, token_R = ctx.saved_tensors
        head = _Head(weight_Vd, bias_V, ctx.softcap)
        minus_R1 = -grad_R[:, None].to(hidden_Rd.dtype)
        weighted_Rd = hidden_Rd * minus_R1
        d_hidden = torch.empty_like(hidden_Rd)
        d_weight: Tensor | None = None
        d_bias: Tensor | None = None
        for i, part in enumerate(_parts(len(token_R), PANEL_ELEMENTS, weight_Vd)):
            residual, ctx.kept[i] = ctx.kept[i], None
            if residual is None:
                residual = _panel(hidden_Rd[part], token_R[part], head, residuals=True).residual
            d_hidden[part] = product(residual, weight_Vd)
            if ctx.needs_input_grad[1]:
                d_weight = _added(d_weight, product(residual.T, weighted_Rd[part]))
            if bias_V is not None:
                d_bias = _added(d_bias, torch.mv(residual.T, minus_R1[part, 0]))
        return (
            d_hidden.mul_(minus_R1),
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


class _Panel(NamedTuple):
    logp: Tensor
    """In float32 at least."""
    residual: Tensor | None
    """(rows, V) in the type of the hidden states, where it is asked for."""


def _panel(hidden_Rd: Tensor, token_R: Tensor, head: _Head, *, residuals: bool) -> _Panel:
    """Log-probabilities of some rows and, in the memory of their logits, their residuals."""
    logits_RV = product(hidden_Rd, head.weight_Vd.T)
    if head.bias_V is not None:
        logits_RV += head.bias_V
    logps: list[Tensor] = []
    for part in _parts(len(token_R), CHUNK_ELEMENTS, head.weight_Vd):
        z, token = logits_RV[part], token_R[part, None]
        if z.dtype in (torch.bfloat16, torch.float16):
            z = z.float()
        slope = None
        if head.softcap is not None:
            bent = torch.tanh(z / head.softcap)
            z, slope = bent * head.softcap, 1 - bent * bent
        p = torch.softmax(z, dim=1)
        # exp(z - logsumexp) of the largest z is the largest p: no further pass of exponentials.
        logsumexp = z.amax(1) - p.amax(1).log()
        logps.append(z.gather(1, token)[:, 0] - logsumexp)
        if residuals:
            p.scatter_add_(1, token, p.new_full(token.shape, -1.0))
            logits_RV[part] = p if slope is None else p.mul_(slope)
    return _Panel(torch.cat(logps), logits_RV if residuals else None)


def _parts(rows: int, elements: int, weight_Vd: Tensor) -> list[slice]:
    """Runs of rows with so many logits."""
    step = max(LEAST_ROWS, elements // weight_Vd.shape[0])
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _added(total: Tensor | None, more: Tensor) -> Tensor:
    """A running sum, in float32 at least where there is more than one term."""
    if total is None:
        return more
    if total.dtype in (torch.bfloat16, torch.float16):
        total = total.float()
    return total.add_(more)
