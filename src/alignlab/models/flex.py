"""Attend over packed groups by torch's FlexAttention, with a block mask of shared prompts.

A query sees up to three ranges of the stream: the root of all prompts, its prompt, and its own
segment up to itself. Blocks of keys outside all three are skipped, and blocks inside one are read
without a mask. FlexAttention compiles a kernel for GPUs; on a CPU it has no backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad

from alignlab.models.packed import PackedBatch
from alignlab.models.tile_attention import AttentionOptions
from alignlab.models.tiles import Segment, segments_of

BLOCK = 128
"""Queries and keys of a block."""
MOST_KERNELS = 64
"""Kernels of one process: one for each type, head size, soft cap, window and use of gradients."""


@dataclass(frozen=True)
class Spans:
    """Keys that each query of a packed stream sees; T is a multiple of `BLOCK`, filling included.

    A query q sees keys k with own[q] <= k <= q, first[q] <= k < last[q], or k < root[q].
    """

    own_T: Tensor
    """First position of the query's segment."""
    first_T: Tensor
    """First position of its prompt; 0 for a prompt's own queries."""
    last_T: Tensor
    """End (exclusive) of its prompt; 0 for a prompt's own queries."""
    root_T: Tensor
    """Positions of the common root that it sees."""
    position_T: Tensor
    """Position of each token in its sequence."""
    segments: tuple[Segment, ...]
    longest: int
    """Tokens of the longest prompt + response."""
    _masks: dict[int | None, BlockMask] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Positions of the stream with its filling."""
        return len(self.own_T)

    def window(self, window: int | None) -> int | None:
        """Return a sliding window where it masks a key; None where no sequence exceeds it."""
        return None if window is not None and window >= self.longest else window

    def mask(self, window: int | None) -> BlockMask:
        """Return the block mask for a sliding window; it is built once per window."""
        window = self.window(window)
        if window not in self._masks:
            self._masks[window] = _block_mask(self, window)
        return self._masks[window]


def spans(batch: PackedBatch) -> Spans:
    """Describe which keys the queries of a packed batch see."""
    length = batch.token_1T.shape[1]
    width = -(-length // BLOCK) * BLOCK
    segments = segments_of(batch)
    if batch.tokens < width:
        # Filling attends to itself: a row without any key would be NaN.
        segments.append(Segment(batch.tokens, width - batch.tokens, 0, 0))
    rows = np.zeros((4, width), dtype=np.int32)
    for segment in segments:
        at = slice(segment.start, segment.start + segment.length)
        own_prefix = segment.prefix - segment.root
        rows[0, at] = segment.start
        if own_prefix:
            rows[1, at] = segment.prefix_start
            rows[2, at] = segment.prefix_start + own_prefix
        rows[3, at] = segment.root
    device = batch.token_1T.device
    own, first, last, root = torch.from_numpy(rows).to(device)
    position = pad(batch.position_1T[0].int(), (0, width - length))
    longest = max(group.longest for group in batch.groups)
    return Spans(own, first, last, root, position, tuple(segments), longest)


def seen(spans: Spans, window: int | None = None) -> Callable[..., Tensor]:
    """Return the mask function (batch, head, query, key) -> True where the query sees the key."""
    own, first, last, root = spans.own_T, spans.first_T, spans.last_T, spans.root_T

    def by_span(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        itself = (own[q] <= k) & (k <= q)
        return itself | ((first[q] <= k) & (k < last[q])) | (k < root[q])

    if window is None:
        return by_span
    position = spans.position_T

    def within(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return by_span(b, h, q, k) & (position[q] - position[k] < window)

    return within


def dense_mask(spans: Spans, window: int | None = None) -> Tensor:
    """Return the mask as a matrix, True where the query (row) sees the key; (T, T)."""
    at_T = torch.arange(spans.width, device=spans.own_T.device)
    none = at_T[:1]
    return seen(spans, spans.window(window))(none, none, at_T[:, None], at_T[None, :])


def attend(
    query: Tensor, key: Tensor, value: Tensor, spans: Spans, options: AttentionOptions
) -> Tensor:
    """Compute attention of a packed stream; (1, heads, T, D) in, (1, T, heads, D) out."""
    length = query.shape[2]
    fill = (0, 0, 0, spans.width - length)
    query, key, value = (pad(t, fill) if fill[3] else t for t in (query, key, value))
    shared = query.shape[1] // key.shape[1]
    if shared & (shared - 1):  # the kernels share key heads by powers of two alone
        key, value = (t.repeat_interleave(shared, dim=1) for t in (key, value))
    with torch._dynamo.config.patch(recompile_limit=MOST_KERNELS):
        found: Tensor = _kernel(query.device.type)(
            query,
            key,
            value,
            score_mod=None if options.softcap is None else _capped(options.softcap),
            block_mask=spans.mask(options.window),
            scale=options.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return found[:, :, :length].transpose(1, 2)


@cache
def _kernel(device: str) -> Callable[..., Any]:
    """Return FlexAttention, compiled for all lengths of streams; uncompiled on a CPU."""
    plain: Callable[..., Any] = flex_attention
    return plain if device == "cpu" else torch.compile(plain, dynamic=True)


def _capped(softcap: float) -> Callable[..., Tensor]:
    def score(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return torch.tanh(score / softcap) * softcap

    return score


def _block_mask(spans: Spans, window: int | None) -> BlockMask:
    needed, full = needed_blocks(spans.segments, spans.width // BLOCK)
    if window is not None:
        full[:] = False
    device = spans.own_T.device
    partial = _listed(needed & ~full, device)
    return BlockMask.from_kv_blocks(
        *partial, *_listed(full, device), BLOCK_SIZE=BLOCK, mask_mod=seen(spans, window)
    )


def needed_blocks(segments: Sequence[Segment], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which blocks of keys each block of queries needs, and which of them wholly.

    Built from the segments: to evaluate the mask at every pair would take memory quadratic in the
    stream.

    Args:
        segments: segments of the stream, filling included.
        count: blocks of the stream.

    Returns:
        Two (count, count) matrices of booleans, queries by keys.
    """
    needed, full = (np.zeros((count, count), dtype=bool) for _ in range(2))
    for segment in segments:
        start, end = segment.start, segment.start + segment.length
        touched = slice(start // BLOCK, -(-end // BLOCK))
        inside = slice(-(-start // BLOCK), end // BLOCK)
        own_prefix = segment.prefix_start + segment.prefix - segment.root
        for first, last in ((0, segment.root), (segment.prefix_start, own_prefix)):
            if first < last:
                needed[touched, first // BLOCK : -(-last // BLOCK)] = True
                full[inside, -(-first // BLOCK) : last // BLOCK] = True
        for block in range(touched.start, touched.stop):
            needed[block, touched.start : block + 1] = True
        for block in range(inside.start, inside.stop):
            full[block, inside.start : block] = True
    return needed, full


def _listed(blocks: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Convert a matrix of blocks to the count and indices of each row, in FlexAttention's form."""
    counts = blocks.sum(1).astype(np.int32)
    indices = np.argsort(~blocks, axis=1, kind="stable").astype(np.int32)
    return tuple(torch.from_numpy(a)[None, None].to(device) for a in (counts, indices))  # type: ignore[return-value]
