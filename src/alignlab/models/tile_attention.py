"""Attention inside one tile as batched matrix products, forward and backward.

H heads, G groups of K responses, prompts padded to P, responses to R, D per head. Queries go in
blocks, so that a block of a prompt or response sees no keys after its end. The K responses of a
group meet their prompt's keys in one product, whose gradient is thereby summed over them.

With S the scores and A = softmax(S): dA = dO V', dS = A (dA - rowsum(dO O)), dQ = dS K,
dK = dS' Q, dV = A' dO (arXiv 2205.14135, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from alignlab.models.tiles import Tile

QUERY_BLOCK = 256
"""Queries of one block."""


@dataclass(frozen=True)
class Options:
    """What a layer's attention call asks for."""

    scale: float
    """Factor on query-key products."""
    softcap: float | None
    """Scores s become cap * tanh(s / cap), as in Gemma 2."""
    window: int | None
    """Keys this many positions back or more are not seen; None sees all."""


@dataclass(frozen=True)
class Rows:
    """Queries, keys, values, outputs or gradients of a tile."""

    prompt: Tensor
    """(H*G, P, D)"""
    response: Tensor
    """(H*G*K, R, D)"""

    def zeros(self) -> Rows:
        return Rows(torch.zeros_like(self.prompt), torch.zeros_like(self.response))

    def flat(self, heads: int) -> list[Tensor]:
        """As (heads, rows, D) each: prompts, then responses."""
        return [t.reshape(heads, -1, t.shape[-1]) for t in (self.prompt, self.response)]


@dataclass(frozen=True)
class Inputs:
    """Scaled queries, keys and values of a tile."""

    q: Rows
    k: Rows
    v: Rows


@dataclass(frozen=True)
class Block:
    """Attention probabilities of queries first..last of every prompt, or of every response."""

    of_prompt: bool
    first: int
    last: int
    probability: Tensor
    """Over the keys seen; (H*G, q, last) of prompts or (H*G*K, q, P + last) of responses."""
    slope: Tensor | None
    """Derivative of the soft cap; None without one."""


def gather(tensor_HTD: Tensor, tile: Tile, *, heads: int, zero_padding: bool = False) -> Rows:
    """Take a tile's rows from the stream; fewer key heads are repeated to `heads`."""

    def take(rows: Tensor, real: Tensor | None, batch: int) -> Tensor:
        taken = tensor_HTD.index_select(1, rows)
        if zero_padding and real is not None:
            taken *= real
        if taken.shape[0] != heads:
            taken = taken.repeat_interleave(heads // taken.shape[0], dim=0)
        return taken.view(heads * batch, -1, taken.shape[-1])

    return Rows(
        take(tile.prompt_rows, tile.prompt_real, tile.G),
        take(tile.response_rows, tile.response_real, tile.G * tile.K),
    )


def probabilities(
    x: Inputs, tile: Tile, masks: tuple[Tensor, Tensor], options: Options
) -> list[Block]:
    """Attention probabilities of all queries of a tile, in blocks."""
    mask_PP, mask_NRM = masks
    blocks = []
    for first, last in _spans(tile.P):
        score = torch.bmm(x.q.prompt[:, first:last], x.k.prompt[:, :last].transpose(1, 2))
        found = _softmax(score, mask_PP[first:last, :last], options)
        blocks.append(Block(True, first, last, *found))
    for first, last in _spans(tile.R):
        query = x.q.response[:, first:last]
        shared = torch.bmm(_by_group(query, tile), x.k.prompt.transpose(1, 2))
        own = torch.bmm(query, x.k.response[:, :last].transpose(1, 2))
        score = torch.cat([shared.view(*own.shape[:2], tile.P), own], dim=2)
        found = _softmax(score, mask_NRM[:, first:last, : tile.P + last], options)
        blocks.append(Block(False, first, last, *found))
    return blocks


def output(x: Inputs, tile: Tile, blocks: list[Block]) -> Rows:
    """Attention outputs of a tile."""
    prompts, responses = [], []
    for block in blocks:
        if block.of_prompt:
            prompts.append(torch.bmm(block.probability, x.v.prompt[:, : block.last]))
        else:
            shared, own = _split(block.probability, tile)
            out = torch.bmm(own, x.v.response[:, : block.last])
            out += torch.bmm(shared, x.v.prompt).view_as(out)
            responses.append(out)
    return Rows(_joined(prompts), _joined(responses))


def backward(x: Inputs, tile: Tile, blocks: list[Block], grad: Rows, grad_dot_out: Rows) -> Inputs:
    """Gradients of scaled queries, keys and values.

    Args:
        x: the tile's inputs.
        tile: its shape.
        blocks: its probabilities.
        grad: gradient of the outputs, zero where padded.
        grad_dot_out: gradient times output, summed over D, as (..., 1).
    """
    d = Inputs(x.q.zeros(), x.k.zeros(), x.v.zeros())
    for block in blocks:
        take = slice(block.first, block.last)
        if block.of_prompt:
            keys = slice(0, block.last)
            d_out = grad.prompt[:, take]
            d_prob = torch.bmm(d_out, x.v.prompt[:, keys].transpose(1, 2))
            d_score = _d_score(block, d_prob, grad_dot_out.prompt[:, take])
            d.q.prompt[:, take] = torch.bmm(d_score, x.k.prompt[:, keys])
            d.k.prompt[:, keys] += torch.bmm(d_score.transpose(1, 2), x.q.prompt[:, take])
            d.v.prompt[:, keys] += torch.bmm(block.probability.transpose(1, 2), d_out)
        else:
            _response_backward(
                x, tile, block, grad.response[:, take], grad_dot_out.response[:, take], d
            )
    return d


def _response_backward(
    x: Inputs, tile: Tile, block: Block, d_out: Tensor, dot: Tensor, d: Inputs
) -> None:
    """Add a response block's gradients to `d`."""
    take, keys = slice(block.first, block.last), slice(0, block.last)
    by_group = _by_group(d_out, tile)
    own = torch.bmm(d_out, x.v.response[:, keys].transpose(1, 2))
    shared = torch.bmm(by_group, x.v.prompt.transpose(1, 2)).view(*own.shape[:2], tile.P)
    d_score = _d_score(block, torch.cat([shared, own], dim=2), dot)
    ds_shared, ds_own = _split(d_score, tile)
    p_shared, p_own = _split(block.probability, tile)
    query = x.q.response[:, take]
    d_query = torch.bmm(ds_own, x.k.response[:, keys])
    d_query += torch.bmm(ds_shared, x.k.prompt).view_as(d_query)
    d.q.response[:, take] = d_query
    d.k.response[:, keys] += torch.bmm(ds_own.transpose(1, 2), query)
    d.v.response[:, keys] += torch.bmm(p_own.transpose(1, 2), d_out)
    d.k.prompt.baddbmm_(ds_shared.transpose(1, 2), _by_group(query, tile))
    d.v.prompt.baddbmm_(p_shared.transpose(1, 2), by_group)


def _softmax(score: Tensor, mask: Tensor, options: Options) -> tuple[Tensor, Tensor | None]:
    """Probabilities in the type of the scores (the sums are float32), and the cap's slope."""
    slope = None
    if options.softcap is not None:
        bent = torch.tanh(score / options.softcap)
        slope = 1 - bent * bent
        score = bent * options.softcap
    score.view(-1, *mask.shape).add_(mask)
    if score.dtype in (torch.float32, torch.float64):
        return torch.softmax(score, dim=-1), slope
    return torch.softmax(score, dim=-1, dtype=torch.float32).to(score.dtype), slope


def _d_score(block: Block, d_prob: Tensor, dot: Tensor) -> Tensor:
    d_score = d_prob.sub_(dot).mul_(block.probability)
    return d_score if block.slope is None else d_score.mul_(block.slope)


def _by_group(tensor: Tensor, tile: Tile) -> Tensor:
    """(H*G*K, q, D) -> (H*G, K*q, D): the K responses of a group one below the other."""
    return tensor.reshape(tensor.shape[0] // tile.K, -1, tensor.shape[2])


def _split(over_keys: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
    """(H*G*K, q, P + own) -> over prompt keys (H*G, K*q, P), over own keys (H*G*K, q, own)."""
    by_group = over_keys.view(over_keys.shape[0] // tile.K, -1, over_keys.shape[2])
    return by_group[:, :, : tile.P], over_keys[:, :, tile.P :]


def _joined(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


def _spans(length: int) -> list[tuple[int, int]]:
    return [(a, min(a + QUERY_BLOCK, length)) for a in range(0, length, QUERY_BLOCK)]
