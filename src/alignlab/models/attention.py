"""Attention over packed groups, as a function in transformers' attention interface.

A response attends to its prompt and to itself, at the positions it would have had alone. Works on
any device; the arithmetic is in `tile_attention.py`. A model uses it only inside `packed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from alignlab.models.tile_attention import (
    Block,
    Inputs,
    Options,
    Rows,
    backward,
    gather,
    output,
    probabilities,
)
from alignlab.models.tiles import Layout, Tile

NAME = "alignlab_packed"
"""The attention implementation's name in transformers' interface."""

KEEP_BYTES = 8 << 20
"""Probabilities of a tile and layer up to this size are kept for the backward."""

_UNSERVED = ("s_aux", "position_bias", "head_mask", "cache")
"""Arguments of an attention call that change its result in ways not served here."""


class Unserved(Exception):
    """The model asks for a kind of attention that the packed forward does not compute."""


@dataclass
class ActiveBatch:
    """The batch that attention calls belong to, and what they told of themselves."""

    layout: Layout
    calls: int = 0
    windows: set[int] = field(default_factory=set)
    """Sliding windows that the calls named."""


_active: list[ActiveBatch] = []
# A plain stack, not thread-local: autograd recomputes checkpointed layers in threads of its own.


@contextmanager
def packed(configs: Sequence[Any], layout: Layout) -> Iterator[ActiveBatch]:
    """Make the attention of models with these configurations use the layout.

    Both the forward and the backward belong inside: checkpointed layers run again there.
    """
    before = [config._attn_implementation for config in configs]
    batch = ActiveBatch(layout)
    _active.append(batch)
    try:
        for config in configs:
            config._attn_implementation = NAME
        yield batch
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
        _active.remove(batch)


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention as transformers calls it: (1, heads, T, D) in, (1, T, heads, D) out.

    Raises:
        Unserved: dropout, sinks, biases or a mask of the model's own.
    """
    batch = _active[-1]
    batch.calls += 1
    _check_served(attention_mask, kwargs)
    window = kwargs.get("sliding_window")
    if window is not None:
        batch.windows.add(window)
    scaling = kwargs.get("scaling")
    options = Options(
        scaling if scaling is not None else query.shape[-1] ** -0.5, kwargs.get("softcap"), window
    )
    out_HTD = _PackedAttention.apply(  # type: ignore[no-untyped-call]
        query[0], key[0], value[0], batch.layout, options
    )
    return out_HTD.transpose(0, 1)[None], None


def _check_served(attention_mask: Tensor | None, kwargs: dict[str, Any]) -> None:
    if kwargs.get("dropout"):
        raise Unserved("attention dropout is on")
    if attention_mask is not None:
        raise Unserved("the model brings an attention mask of its own")
    if kwargs.get("is_causal") is False:
        raise Unserved("the model's attention is not causal")
    for name in _UNSERVED:
        if kwargs.get(name) is not None:
            raise Unserved(f"the model's attention uses {name}")


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """The layout says who sees whom; transformers need not build a mask."""


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _no_mask)


class _PackedAttention(torch.autograd.Function):
    """Forward and backward over all tiles; q (H, T, D), k and v (heads of k, T, D)."""

    @staticmethod
    def forward(
        ctx: Any, q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, layout: Layout, options: Options
    ) -> Tensor:
        pieces: list[Tensor] = []
        kept: list[list[Block] | None] = []
        for i, tile in enumerate(layout.tiles):
            x = _inputs(q_HTD, k_HTD, v_HTD, tile, options)
            masks = layout.masks(i, options.window, q_HTD.dtype)
            blocks = probabilities(x, tile, masks, options)
            pieces.extend(output(x, tile, blocks).flat(q_HTD.shape[0]))
            size = sum(b.probability.numel() * b.probability.element_size() for b in blocks)
            kept.append(blocks if size <= KEEP_BYTES and any(ctx.needs_input_grad) else None)
        out_HTD = torch.cat(pieces, dim=1).index_select(1, layout.scatter_T)
        ctx.layout, ctx.options, ctx.kept = layout, options, kept
        ctx.save_for_backward(q_HTD, k_HTD, v_HTD, out_HTD)
        return out_HTD

    @staticmethod
    def backward(ctx: Any, grad_HTD: Tensor) -> Any:
        q_HTD, k_HTD, v_HTD, out_HTD = ctx.saved_tensors
        layout, options = ctx.layout, ctx.options
        heads = q_HTD.shape[0]
        dot_HT1 = (grad_HTD * out_HTD).sum(-1, keepdim=True)
        pieces: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for i, tile in enumerate(layout.tiles):
            x = _inputs(q_HTD, k_HTD, v_HTD, tile, options)
            blocks = ctx.kept[i]
            if blocks is None:
                masks = layout.masks(i, options.window, q_HTD.dtype)
                blocks = probabilities(x, tile, masks, options)
            # Padded rows repeat stream position 0 and must bring no gradient.
            grad = gather(grad_HTD, tile, heads=heads, zero_padding=True)
            dot = gather(dot_HT1, tile, heads=heads, zero_padding=True)
            d = backward(x, tile, blocks, grad, dot)
            for into, rows in zip(pieces, (d.q, d.k, d.v), strict=True):
                into.extend(rows.flat(heads))
        dq, dk, dv = (torch.cat(p, dim=1).index_select(1, layout.scatter_T) for p in pieces)
        for gradient in (dq, dk, dv):
            gradient[:, layout.tokens :] = 0
        ctx.kept = None
        return dq.mul_(options.scale), _sum_heads(dk, k_HTD), _sum_heads(dv, v_HTD), None, None


def _inputs(q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, tile: Tile, options: Options) -> Inputs:
    heads = q_HTD.shape[0]
    q = gather(q_HTD, tile, heads=heads)
    scaled = Rows(q.prompt.mul_(options.scale), q.response.mul_(options.scale))
    return Inputs(scaled, gather(k_HTD, tile, heads=heads), gather(v_HTD, tile, heads=heads))


def _sum_heads(grad_HTD: Tensor, like: Tensor) -> Tensor:
    """Sum over the query heads that share a key head."""
    if grad_HTD.shape[0] == like.shape[0]:
        return grad_HTD
    return grad_HTD.view(like.shape[0], -1, *grad_HTD.shape[1:]).sum(1)
