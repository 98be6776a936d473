"""Exact temperature and nucleus sampling without a sort, one uniform draw per token.

The nucleus is the smallest prefix of the tokens in order of probability (equal ones: in that of
the vocabulary) with at least `top_p` of the mass (arXiv 1904.09751, section 3.1). A token is drawn
from the whole distribution by inverse transform. It is in the nucleus exactly if the tokens before
it hold less than `top_p`, which takes one masked sum. If it is not, no token after it is, and the
next draw is from those before it; so flat distributions cost no more than peaked ones. Further
draws are derived from the bits of the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 64
"""Tokens per block: cumulative sums, which are slow, run over blocks and within one."""
CACHE_ELEMENTS = 1 << 18
"""Logits per chunk on a CPU, so that they stay in its cache."""
_LAST = 1 - 2**-52
"""Upper bound of draws, so that rounding cannot lift one to the end of the mass."""


@dataclass(frozen=True)
class SampledTokens:
    """Next token of every row."""

    tokens_B: Tensor
    logprobs_B: Tensor
    """Log-probability in nats under the model's own distribution (temperature 1), float32."""


def sample_tokens(
    logits_BV: Tensor, uniform_B: Tensor, *, temperature: float, top_p: float
) -> SampledTokens:
    """Draw (temperature 0: take the most likely) one token per row.

    `uniform_B` holds float64 draws from [0, 1); greedy choice does not read them.
    """
    rows, vocabulary = logits_BV.shape
    at_once = rows if logits_BV.is_cuda else max(1, CACHE_ELEMENTS // vocabulary)
    tokens, logprobs = [], []
    left: list[tuple[Tensor, Tensor]] = []
    for start in range(0, rows, at_once):
        part = slice(start, start + at_once)
        logit_BV = logits_BV[part].float()
        if temperature == 0:
            token_B = logit_BV.argmax(dim=-1)
        else:
            prob_BV = (logit_BV / temperature).softmax(dim=-1)
            token_B = draw(prob_BV, uniform_B[part])
            if top_p < 1:
                out_R = (_mass_upto(prob_BV, token_B) >= top_p).nonzero()[:, 0]
                left.append((out_R + start, prob_BV[out_R]))
        tokens.append(token_B)
        logprobs.append(_minus_norm(logit_BV))
    tokens_B = torch.cat(tokens)
    if left:
        row_R, prob_RV = (torch.cat(several) for several in zip(*left, strict=True))
        tokens_B[row_R] = _within(prob_RV, tokens_B[row_R], uniform_B[row_R], top_p)
    picked_B = logits_BV.gather(-1, tokens_B[:, None])[:, 0].float()
    return SampledTokens(tokens_B, picked_B + torch.cat(logprobs))


def draw(weight_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Return the token, shape (B,), at which the cumulative weight passes a share of the whole."""
    vocabulary = weight_BV.shape[-1]
    whole = vocabulary - vocabulary % BLOCK
    block_BN = weight_BV[:, :whole].view(len(weight_BV), -1, BLOCK).sum(dim=-1)
    if whole < vocabulary:
        last_B1 = weight_BV[:, whole:].sum(dim=-1, keepdim=True)
        block_BN = torch.cat([block_BN, last_B1], dim=-1)
    block_B1, share_B1 = _passed(block_BN, uniform_B[:, None])
    place_BX = block_B1 * BLOCK + torch.arange(min(BLOCK, vocabulary), device=weight_BV.device)
    inside_BX = weight_BV.gather(-1, place_BX.clamp(max=vocabulary - 1))
    inside_BX = inside_BX.masked_fill_(place_BX >= vocabulary, 0)
    offset_B1, _ = _passed(inside_BX, share_B1)
    return (block_B1 * BLOCK + offset_B1)[:, 0]


def _passed(weight_BX: Tensor, uniform_B1: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place where the cumulative weight passes a share of it, and how far into it."""
    mass_BX = weight_BX.cumsum(dim=-1, dtype=torch.float64)
    drawn_B1 = uniform_B1.clamp(max=_LAST) * mass_BX[:, -1:]
    index_B1 = torch.searchsorted(mass_BX, drawn_B1, right=True).clamp(max=mass_BX.shape[-1] - 1)
    weight_B1 = weight_BX.gather(-1, index_B1).double()
    before_B1 = mass_BX.gather(-1, index_B1) - weight_B1
    return index_B1, ((drawn_B1 - before_B1) / weight_B1).clamp(0, _LAST)


def _mass_upto(prob_BV: Tensor, token_B: Tensor) -> Tensor:
    """Sum the mass of tokens at least as likely as the given one, excluding it, never too low."""
    prob_B1 = prob_BV.gather(-1, token_B[:, None])
    # A mask of the same type: products of mixed types are several times slower.
    kept_BV = torch.ge(prob_BV, prob_B1, out=torch.empty_like(prob_BV))
    return kept_BV.mul_(prob_BV).sum(dim=-1) - prob_B1[:, 0]


def _within(prob_BV: Tensor, token_B: Tensor, uniform_B: Tensor, top_p: float) -> Tensor:
    """Draw tokens of the nucleus, for rows whose first draw may lie outside."""
    place_V = torch.arange(prob_BV.shape[-1], device=prob_BV.device)
    open_R = torch.arange(len(token_B), device=token_B.device)
    while True:
        prob_R1 = prob_BV.gather(-1, token_B[open_R, None])
        before_RV = (prob_BV > prob_R1) | ((prob_BV == prob_R1) & (place_V < token_B[open_R, None]))
        prob_BV = prob_BV * before_RV
        out_R = prob_BV.sum(dim=-1) >= top_p
        if not out_R.any():
            return token_B
        open_R, prob_BV, uniform_B = open_R[out_R], prob_BV[out_R], _mixed(uniform_B[out_R])
        token_B[open_R] = draw(prob_BV, uniform_B)


def _mixed(uniform_B: Tensor) -> Tensor:
    """Derive another draw from [0, 1) from a draw's bits (splitmix64's finaliser)."""
    bits_B = uniform_B.view(torch.int64) + -0x61C8864680B583EB
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        bits_B = (bits_B ^ _shifted(bits_B, shift)) * factor
    bits_B = bits_B ^ _shifted(bits_B, 31)
    return _shifted(bits_B, 11).double() * 2.0**-53


def _shifted(bits_B: Tensor, places: int) -> Tensor:
    """Shift bits right, filling zeros from the left."""
    return (bits_B >> places) & ((1 << (64 - places)) - 1)


def _minus_norm(logit_BV: Tensor) -> Tensor:
    """Return minus the log of the sum of exponentials, (B,), by a softmax (twice as fast)."""
    return logit_BV.softmax(dim=-1).amax(dim=-1).log() - logit_BV.amax(dim=-1)
