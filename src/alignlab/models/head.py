"""Compute token log-probabilities by the vocabulary head, in panels of rows.

log p(token) = z_token - logsumexp(z), z the logits of the row. Its gradient with respect to z is
minus the residual e = softmax(z) - onehot(token). Residuals are computed in the forward, in the
memory of the logits, and stored for the backward up to a size; the incoming gradient of a row then
scales its hidden state, which is smaller than its logits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignlab.models.onednn import product

PANEL_ELEMENTS = 1 << 24
"""Largest number of logits of one matrix product."""
CHUNK_ELEMENTS = 1 << 20
"""Largest number of logits processed in float32 at once, to fit the CPU's cache."""
LEAST_ROWS = 256
"""Fewest rows of a panel or chunk; matrix products of fewer are slow."""
KEEP_BYTES = 1 << 28
"""Largest size of residuals stored for the backward; larger ones are recomputed."""


class _Head(NamedTuple):
    """Parameters of a vocabulary head."""

    weight_Vd: Tensor
    bias_V: Tensor | None
    softcap: float | None


class _RowLogps(torch.autograd.Function):
    """Log-probability of one token per row; hidden (R, d), weight (V, d), bias (V) or None."""

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
        ctx.residuals = []
        for part in _parts(len(token_R), PANEL_ELEMENTS, weight_Vd):
            logp, residual = _panel(hidden_Rd[part], token_R[part], head, residuals=keeps)
            logps.append(logp)
            ctx.residuals.append(residual)
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
            residual, ctx.residuals[i] = ctx.residuals[i], None
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
    """Compute the log-probability in nats of one token per row; (R,), in float32 at least.

    Args:
        hidden_Rd: hidden states at the predicting positions.
        weight_Vd: weight of the head.
        bias_V: bias of the head, if any.
        token_R: predicted tokens.
        softcap: cap on logits: z becomes cap * tanh(z / cap), as in Gemma 2.
    """
    found: Tensor = _RowLogps.apply(  # type: ignore[no-untyped-call]
        hidden_Rd, weight_Vd, bias_V, token_R, softcap
    )
    return found


@torch.no_grad()
def row_moments(
    hidden_Rd: Tensor, weight_Vd: Tensor, bias_V: Tensor | None, *, softcap: float | None = None
) -> Tensor:
    """Compute log sum_v p(v)^2 in nats per row, without gradient; (R,), in float32 at least.

    exp of it is the expected probability of a token that is drawn from the row.
    """
    head = _Head(weight_Vd, bias_V, softcap)
    found: list[Tensor] = []
    for panel in _parts(len(hidden_Rd), PANEL_ELEMENTS, weight_Vd):
        logits_RV = _logits(hidden_Rd[panel], head)
        for part in _parts(len(logits_RV), CHUNK_ELEMENTS, weight_Vd):
            z = at_least_float32(logits_RV[part])
            if softcap is not None:
                z = torch.tanh(z / softcap) * softcap
            found.append(log_moment(z))
    return torch.cat(found)


def log_moment(logits_RV: Tensor) -> Tensor:
    """Return log sum_v softmax(logits)_v^2 per row; (R,)."""
    return torch.logsumexp(2 * logits_RV, dim=1) - 2 * torch.logsumexp(logits_RV, dim=1)


def _logits(hidden_Rd: Tensor, head: _Head) -> Tensor:
    """Compute the logits of some rows, before the soft cap; (rows, V)."""
    logits_RV = product(hidden_Rd, head.weight_Vd.T)
    if head.bias_V is not None:
        logits_RV += head.bias_V
    return logits_RV


class _Panel(NamedTuple):
    """Log-probabilities and residuals of some rows."""

    logp: Tensor
    """(rows,), in float32 at least."""
    residual: Tensor | None
    """(rows, V) in the type of the hidden states; None where not requested."""


def _panel(hidden_Rd: Tensor, token_R: Tensor, head: _Head, *, residuals: bool) -> _Panel:
    """Compute log-probabilities of some rows and, in the memory of the logits, residuals."""
    logits_RV = _logits(hidden_Rd, head)
    logps: list[Tensor] = []
    for part in _parts(len(token_R), CHUNK_ELEMENTS, head.weight_Vd):
        z, token = at_least_float32(logits_RV[part]), token_R[part, None]
        slope = None
        if head.softcap is not None:
            bent = torch.tanh(z / head.softcap)
            z, slope = bent * head.softcap, 1 - bent * bent
        p = torch.softmax(z, dim=1)
        # max p = exp(max z - logsumexp): logsumexp without a second pass of exponentials.
        logsumexp = z.amax(1) - p.amax(1).log()
        logps.append(z.gather(1, token)[:, 0] - logsumexp)
        if residuals:
            p.scatter_add_(1, token, p.new_full(token.shape, -1.0))
            logits_RV[part] = p if slope is None else p.mul_(slope)
    return _Panel(torch.cat(logps), logits_RV if residuals else None)


def _parts(rows: int, elements: int, weight_Vd: Tensor) -> list[slice]:
    """Split rows into slices of at most so many logits."""
    step = max(LEAST_ROWS, elements // weight_Vd.shape[0])
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _added(total: Tensor | None, more: Tensor) -> Tensor:
    """Add a term to a running sum, in float32 at least from the second term on."""
    return more if total is None else at_least_float32(total).add_(more)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 where its type is a half-precision one."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
