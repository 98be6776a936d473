"""Compute attention inside one tile by batched matrix products, forward and backward.

H heads, N segments with prefixes padded to P and lengths padded to R, L = P + R keys, D per head.
Queries are processed in blocks, and a block skips the keys after its end. Every response has a copy
of its prompt's keys before its own: small compared with the scores, which then need no split and
concatenation. Scores are float32: rounded to bfloat16, those of models with large keys (Qwen 2) or
normalised ones (Gemma 3) would move probabilities by several per cent.

With S the scores and A = softmax(S): dA = dO V', dS = A (dA - rowsum(dA A)), dQ = dS K,
dK = dS' Q, dV = A' dO (arXiv 2205.14135, appendix B).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignlab.models.head import at_least_float32
from alignlab.models.tiles import Masks, Tile


@dataclass(frozen=True)
class AttentionOptions:
    """Options of an attention call."""

    scale: float
    """Factor on query-key products."""
    softcap: float | None
    """Scores s become cap * tanh(s / cap), as in Gemma 2."""
    window: int | None
    """Sliding window: keys this many positions back or more are masked; None masks none."""


@dataclass(frozen=True)
class Inputs:
    """Scaled queries, keys and values of a tile, or their gradients."""

    q: Tensor
    """(H * N, R, D)"""
    k: Tensor
    """(H * N, L, D)"""
    v: Tensor


@dataclass(frozen=True)
class Block:
    """Attention probabilities of queries first..last (exclusive) of every segment."""

    first: int
    last: int
    probability: Tensor
    """(H * N, last - first, P + last)"""
    slope: Tensor | None
    """Derivative of the soft cap; None without one."""


def gather(tensor_HTD: Tensor, rows: Tensor, tile: Tile, *, heads: int) -> Tensor:
    """Gather a tile's rows from the stream, (heads * N, rows, D); key heads are repeated."""
    taken = tensor_HTD.index_select(1, rows)
    if taken.shape[0] != heads:
        taken = taken.repeat_interleave(heads // taken.shape[0], dim=0)
    return taken.view(heads * tile.N, -1, taken.shape[-1])


def probabilities(x: Inputs, tile: Tile, masks: Masks, options: AttentionOptions) -> list[Block]:
    """Compute attention probabilities of all queries of a tile, in blocks."""
    blocks = []
    for first, last in tile.blocks:
        # Queries see no keys after their block: leaving them out saves up to half the work.
        keys = x.k[:, : tile.P + last]
        queries = at_least_float32(x.q[:, first:last])
        score = torch.bmm(queries, at_least_float32(keys).transpose(1, 2))
        slope = None
        if options.softcap is not None:
            bent = torch.tanh(score / options.softcap)
            slope = 1 - bent * bent
            score = bent * options.softcap
        _hide(score, tile, masks, first, last)
        blocks.append(Block(first, last, torch.softmax(score, dim=-1).to(x.v.dtype), slope))
    return blocks


def output(x: Inputs, tile: Tile, blocks: Sequence[Block]) -> Tensor:
    """Compute attention outputs of a tile; (H * N, R, D)."""
    found = [torch.bmm(block.probability, x.v[:, : tile.P + block.last]) for block in blocks]
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)


def backward(x: Inputs, tile: Tile, blocks: Sequence[Block], grad: Tensor) -> Inputs:
    """Compute gradients of scaled queries and, in float32 at least, of keys and values.

    Args:
        x: inputs of the tile.
        tile: shape of the tile.
        blocks: attention probabilities of the tile.
        grad: gradient of the outputs, (H * N, R, D), zero where padded.
    """
    d_q = torch.empty_like(x.q)
    sums: list[Tensor] = []
    # The last block sees every key, so its gradients are the buffers for the other blocks'.
    for block in reversed(blocks):
        take, keys = slice(block.first, block.last), slice(0, tile.P + block.last)
        d_out = grad[:, take]
        d_prob = torch.bmm(d_out, x.v[:, keys].transpose(1, 2))
        d_score = torch.ops.aten._softmax_backward_data(d_prob, block.probability, -1, d_prob.dtype)
        if block.slope is not None:
            d_score *= block.slope
        d_q[:, take] = torch.bmm(d_score, x.k[:, keys])
        d_keys = torch.bmm(d_score.transpose(1, 2), x.q[:, take])
        d_values = torch.bmm(block.probability.transpose(1, 2), d_out)
        if not sums:
            # Sums over many blocks would lose digits in half precision.
            sums = [at_least_float32(d_keys), at_least_float32(d_values)]
        else:
            sums[0][:, keys] += d_keys
            sums[1][:, keys] += d_values
    return Inputs(d_q, *sums)


def _hide(score: Tensor, tile: Tile, masks: Masks, first: int, last: int) -> None:
    """Mask the keys that queries first..last do not see; every query sees itself."""
    queries = last - first
    score[:, :, tile.P + first :] += masks.causal_QQ[:queries, :queries]
    if masks.padding_NM is not None:
        # A prefix is padded at its start, so that only the first M columns need the mask.
        by_segment = score.view(-1, tile.N, queries, score.shape[2])
        by_segment[..., : masks.padding_NM.shape[2]] += masks.padding_NM
    if masks.window_RL is not None:
        score += masks.window_RL[first:last, : tile.P + last]
