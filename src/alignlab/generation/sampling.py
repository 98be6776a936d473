"""Exact temperature and nucleus sampling by inverse transform, one uniform draw per token.

Tokens are ordered by probability; the nucleus is the smallest prefix of that order with at least
`top_p` of the mass (arXiv 1904.09751, section 3.1); the token is the one at which the cumulative
mass passes u * (mass of the nucleus). Only the likeliest tokens are sorted, more of them for rows
whose nucleus does not end among these, so that the result is exact for every row. Without a
nucleus (`top_p` 1) nothing needs an order: tokens are taken in that of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PREFILTER = (64, 1024)
"""How many of the likeliest tokens are sorted at first, and where that is too few."""


@dataclass(frozen=True)
class Chosen:
    """The next token of every row."""

    tokens_B: Tensor
    logprobs_B: Tensor
    """Log-probability in nats under the model's own distribution (temperature 1), float32."""


def choose(logits_BV: Tensor, uniform_B: Tensor, *, temperature: float, top_p: float) -> Chosen:
    """Draw (temperature 0: take the most likely) one token per row.

    `uniform_B` holds float64 draws from [0, 1); greedy choice does not read them.
    """
    logits_BV = logits_BV.float()
    if temperature == 0:
        tokens_B = logits_BV.argmax(dim=-1)
    elif top_p == 1:
        tokens_B = _pick((logits_BV / temperature).softmax(dim=-1), uniform_B, 1.0)
    else:
        tokens_B = _nucleus(logits_BV / temperature, uniform_B, top_p)
    picked_B = logits_BV.gather(-1, tokens_B[:, None])[:, 0]
    return Chosen(tokens_B, picked_B - logits_BV.logsumexp(dim=-1))


def _nucleus(logits_BV: Tensor, uniform_B: Tensor, top_p: float) -> Tensor:
    """Tokens from the nucleus; rows are left for the next, wider sort until their nucleus ends."""
    vocabulary = logits_BV.shape[-1]
    norm_B1 = logits_BV.logsumexp(dim=-1, keepdim=True)
    tokens_B = torch.zeros(len(logits_BV), dtype=torch.long, device=logits_BV.device)
    rest_R = torch.arange(len(logits_BV), device=logits_BV.device)
    logits_RV, norm_R1 = logits_BV, norm_B1
    for kept in (*(k for k in PREFILTER if k < vocabulary), vocabulary):
        top_RK, order_RK = logits_RV.topk(kept, dim=-1)
        probs_RK = (top_RK - norm_R1).exp()
        picked_R = _pick(probs_RK, uniform_B[rest_R], top_p)
        tokens_B[rest_R] = order_RK.gather(-1, picked_R[:, None])[:, 0]
        open_R = probs_RK.sum(dim=-1, dtype=torch.float64) < top_p
        if kept == vocabulary or not open_R.any():
            break
        rest_R, logits_RV, norm_R1 = rest_R[open_R], logits_RV[open_R], norm_R1[open_R]
    return tokens_B


def _pick(probs_BK: Tensor, uniform_B: Tensor, top_p: float) -> Tensor:
    """Index, shape (B,), at which the cumulative mass passes the draw within the nucleus."""
    mass_BK = probs_BK.cumsum(dim=-1, dtype=torch.float64)
    last_B1 = torch.full_like(uniform_B[:, None], mass_BK.shape[-1] - 1, dtype=torch.long)
    if top_p < 1:
        last_B1 = torch.minimum((mass_BK < top_p).sum(dim=-1, keepdim=True), last_B1)
    drawn_B1 = uniform_B[:, None] * mass_BK.gather(-1, last_B1)
    index_B1 = torch.searchsorted(mass_BK, drawn_B1, right=True)
    return torch.minimum(index_B1, last_B1)[:, 0]
