"""Attention over packed groups, as a function in transformers' attention interface.

A response attends to its prompt and to itself, at the positions it would have had alone. Works on
any device; the arithmetic is in `tile_attention.py`, or FlexAttention's (`flex.py`). A model uses
it only inside `packed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from alignlab.models import flex
from alignlab.models.tile_attention import (
    AttentionOptions,
    Block,
    Inputs,
    backward,
    gather,
    output,
    probabilities,
)
from alignlab.models.tiles import Tile, TileLayout

NAME = "alignlab_packed"
"""The attention implementation's name in transformers' interface."""

KEEP_BYTES = 32 << 20
"""Bytes of attention probabilities per layer stored for the backward; the rest is recomputed."""

_UNSUPPORTED = ("s_aux", "position_bias", "head_mask", "cache")
"""Arguments of an attention call that the packed forward does not implement."""


class UnsupportedAttention(Exception):
    """Attention of a kind that the packed forward does not implement."""


@dataclass
class ActiveBatch:
    """Batch that attention calls belong to, with counts of the calls."""

    layout: TileLayout | flex.Spans
    """Tiles, or the spans that FlexAttention reads."""
    calls: int = 0
    windows: set[int] = field(default_factory=set)
    """Sliding windows passed by the calls, in positions."""


_active: list[ActiveBatch] = []
# A plain stack, not thread-local: autograd recomputes checkpointed layers in threads of its own.


@contextmanager
def packed(configs: Sequence[Any], layout: TileLayout | flex.Spans) -> Iterator[ActiveBatch]:
    """Attend by a packed layout in models with these configurations, inside the block.

    Run both forward and backward inside: checkpointed layers are recomputed in the backward.
    """
    batch = ActiveBatch(layout)
    with through(configs, NAME):
        _active.append(batch)
        try:
            yield batch
        finally:
            _active.remove(batch)


@contextmanager
def through(configs: Sequence[Any], implementation: str) -> Iterator[None]:
    """Attend by a registered implementation in models with these configurations."""
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = implementation
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


def keep_soft_cap(model: Any) -> None:
    """Switch a model with a soft cap on its scores (Gemma 2) from SDPA to eager attention.

    SDPA ignores the soft cap, and older versions of transformers choose it for such models.
    """
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    if capped and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Compute packed attention under transformers' interface.

    Args:
        query: (1, heads, T, D); key and value have as many heads or fewer.

    Returns:
        Output (1, T, heads, D), and None for the attention weights.

    Raises:
        UnsupportedAttention: dropout, sinks, biases or a mask of the model's own.
    """
    batch = _active[-1]
    batch.calls += 1
    check_served(attention_mask, kwargs)
    window = kwargs.get("sliding_window")
    if window is not None:
        batch.windows.add(window)
    scaling = kwargs.get("scaling")
    options = AttentionOptions(
        scaling if scaling is not None else query.shape[-1] ** -0.5, kwargs.get("softcap"), window
    )
    if isinstance(batch.layout, flex.Spans):
        return flex.attend(query, key, value, batch.layout, options), None
    out_HTD = _PackedAttention.apply(  # type: ignore[no-untyped-call]
        query[0], key[0], value[0], batch.layout, options
    )
    return out_HTD.transpose(0, 1)[None], None


def check_served(attention_mask: Tensor | None, kwargs: dict[str, Any]) -> None:
    """Check that an attention call uses no option but scale, soft cap and window.

    Raises:
        UnsupportedAttention: it uses another option.
    """
    if kwargs.get("dropout"):
        raise UnsupportedAttention("attention dropout is on")
    if attention_mask is not None:
        raise UnsupportedAttention("the model brings an attention mask of its own")
    if kwargs.get("is_causal") is False:
        raise UnsupportedAttention("the model's attention is not causal")
    for name in _UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise UnsupportedAttention(f"the model's attention uses {name}")


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Build no mask: the layout determines which keys a query sees."""


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _no_mask)


class _PackedAttention(torch.autograd.Function):
    """Attention over all tiles; q (H, T, D), k and v (key heads, T, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        q_HTD: Tensor,
        k_HTD: Tensor,
        v_HTD: Tensor,
        layout: TileLayout,
        options: AttentionOptions,
    ) -> Tensor:
        # index_select over T is fast only where the rows of a head are contiguous.
        q_HTD, k_HTD, v_HTD = (t.contiguous() for t in (q_HTD, k_HTD, v_HTD))
        pieces: list[Tensor] = []
        stored: list[list[Block] | None] = []
        room = KEEP_BYTES if any(ctx.needs_input_grad) else 0
        for i, tile in enumerate(layout.tiles):
            x = _inputs(q_HTD, k_HTD, v_HTD, tile, options)
            masks = layout.masks(i, options.window, q_HTD.dtype)
            blocks = probabilities(x, tile, masks, options)
            pieces.append(output(x, tile, blocks))
            # Storing all probabilities would take memory quadratic in the sequence length.
            room -= sum(b.probability.numel() * b.probability.element_size() for b in blocks)
            stored.append(blocks if room >= 0 else None)
        out_HTD = _to_stream(pieces, (layout.query_T,), q_HTD.shape[0], q_HTD)
        ctx.layout, ctx.options, ctx.stored = layout, options, stored
        ctx.save_for_backward(q_HTD, k_HTD, v_HTD)
        return out_HTD

    @staticmethod
    def backward(ctx: Any, grad_HTD: Tensor) -> Any:
        q_HTD, k_HTD, v_HTD = ctx.saved_tensors
        layout, options = ctx.layout, ctx.options
        heads = q_HTD.shape[0]
        grad_HTD = grad_HTD.contiguous()
        pieces: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for i, tile in enumerate(layout.tiles):
            x = _inputs(q_HTD, k_HTD, v_HTD, tile, options)
            # Popped, so that a tile's probabilities are freed as soon as they are used.
            blocks, ctx.stored[i] = ctx.stored[i], None
            if blocks is None:
                masks = layout.masks(i, options.window, q_HTD.dtype)
                blocks = probabilities(x, tile, masks, options)
            grad = gather(grad_HTD, tile.query_rows, tile, heads=heads)
            if tile.query_real is not None:
                # Padded queries read stream position 0 and must contribute no gradient to it.
                grad.view(heads, -1, grad.shape[-1]).mul_(tile.query_real)
            d = backward(x, tile, blocks, grad)
            for into, piece in zip(pieces, (d.q, d.k, d.v), strict=True):
                into.append(piece)
        d_q = _to_stream(pieces[0], (layout.query_T,), heads, q_HTD)
        d_k = _to_stream(pieces[1], layout.key_kT, heads, k_HTD)
        d_v = _to_stream(pieces[2], layout.key_kT, heads, v_HTD)
        # d_q is the gradient of the scaled queries.
        return d_q.mul_(options.scale), d_k, d_v, None, None


def _inputs(
    q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, tile: Tile, options: AttentionOptions
) -> Inputs:
    """Gather a tile's scaled queries, keys and values from the stream."""
    heads = q_HTD.shape[0]
    return Inputs(
        gather(q_HTD, tile.query_rows, tile, heads=heads).mul_(options.scale),
        gather(k_HTD, tile.key_rows, tile, heads=heads),
        gather(v_HTD, tile.key_rows, tile, heads=heads),
    )


def _to_stream(
    pieces: Sequence[Tensor], rows_kT: Sequence[Tensor], heads: int, like: Tensor
) -> Tensor:
    """Sum the tiles' rows of each stream position, and the query heads that share a key head.

    Args:
        pieces: (heads * N, rows of a segment, D) per tile.
        rows_kT: row indices of each stream position; the index past the last row reads zeros.
        heads: number of heads of the pieces.
        like: tensor with the number of heads and the type of the result.
    """
    D = like.shape[2]
    flat = [piece.view(heads, -1, D) for piece in pieces]
    rows = torch.cat([*flat, flat[0].new_zeros(heads, 1, D)], dim=1)
    found = rows.index_select(1, rows_kT[0])
    for rows_T in rows_kT[1:]:
        found += rows.index_select(1, rows_T)
    if heads != like.shape[0]:
        found = found.view(like.shape[0], -1, *found.shape[1:]).sum(1)
    return found.to(like.dtype)
