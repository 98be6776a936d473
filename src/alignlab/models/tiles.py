"""Cut attention over a packed stream into dense blocks.

A segment is a prompt, or a response with its prompt as prefix. Segments of similar lengths form a
tile: prefixes are padded at their start to P positions, segments at their end to R, so that a
query sees the same distances in all of them, and attention is a few batched products. Padding
exists inside attention only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alignlab.models.packed import PackedBatch

SIDE_MULTIPLE = 32
"""Padded lengths are multiples of this: few shapes, and whole vector registers."""

QUERY_BLOCK = 128
"""Queries of one block, which sees no keys after its end."""

TILE_COST = 10_000
"""Query-key pairs whose work equals the fixed cost of one more block on a processor."""
DEVICE_TILE_COST = 4_000_000
"""The same where kernels are launched on another device."""
MOST_SEGMENTS = 64
"""Segments of one tile; it bounds the search for the best cut."""


class Segment(NamedTuple):
    """A run of queries in the stream, and the prefix that it sees before itself."""

    start: int
    """Stream position of its first token."""
    length: int
    prefix_start: int
    prefix: int
    """Tokens of the prefix."""


class Masks(NamedTuple):
    """Masks of what queries must not see, as -inf to add to scores."""

    padding_NM: Tensor | None
    """(N, 1, M): over the first M keys, where prefixes are padded; None without padding."""
    causal_QQ: Tensor
    """Over a block's own keys."""
    window_RL: Tensor | None
    """(R, P + R): keys that have left the window; None where all are seen."""


@dataclass(frozen=True)
class Tile:
    """N segments of at most R positions with prefixes of at most P."""

    N: int
    P: int
    R: int
    padding_N: Tensor
    """Padded positions before each prefix."""
    query_rows: Tensor
    """Stream position of each of the N * R padded queries; 0 where padded."""
    key_rows: Tensor
    """Stream position of each of the N * (P + R) padded keys; 0 where padded."""
    query_real: Tensor | None
    """1 for real and 0 for padded queries (N * R, 1); None without padding."""

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """First and last (exclusive) query of each block."""
        return _blocks(self.R)


@dataclass(frozen=True)
class Layout:
    """The tiles of one micro-batch and the way back to the stream."""

    tiles: tuple[Tile, ...]
    query_T: Tensor
    """Row of each stream position among all tiles' queries; one past the last for filling."""
    key_kT: tuple[Tensor, ...]
    """Rows of each stream position among all tiles' keys: as itself, then as the prefix of the
    first, second, ... response; one past the last where there is none."""
    longest: int
    """Tokens of the longest prompt + response."""
    _masks: dict[tuple[int, int | None, torch.dtype], Masks] = field(default_factory=dict)

    def masks(self, tile: int, window: int | None, dtype: torch.dtype) -> Masks:
        """Return the masks of a tile's queries."""
        if window is not None and window >= self.longest:
            window = None
        key = (tile, window, dtype)
        if key not in self._masks:
            self._masks[key] = _masks(self.tiles[tile], window, dtype)
        return self._masks[key]


def layout(batch: PackedBatch) -> Layout:
    """Cut a packed batch into tiles that waste little padding."""
    device = batch.token_1T.device
    # Runs of a sorted list are enough: a tile costs what its longest segment and prefix cost.
    segments = sorted(_segments(batch), key=lambda s: (s.length, s.prefix))
    tiles: list[Tile] = []
    queries: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    for first, last in _cuts(segments, TILE_COST if device.type == "cpu" else DEVICE_TILE_COST):
        tile, query_rows, key_rows = _tile(segments[first:last], device)
        tiles.append(tile)
        queries.append(query_rows)
        keys.append(key_rows)
    length = batch.token_1T.shape[1]
    longest = max(group.longest for group in batch.groups)
    (query_T,) = _ways_back(np.concatenate(queries), length, device)
    return Layout(tuple(tiles), query_T, _ways_back(np.concatenate(keys), length, device), longest)


def _segments(batch: PackedBatch) -> list[Segment]:
    found = []
    for start, group in zip(batch.prompt_start_B, batch.groups, strict=True):
        prompt = len(group.prompt_T)
        found.append(Segment(start, prompt, start, 0))
        at = start + prompt
        for response in group.responses:
            found.append(Segment(at, len(response), start, prompt))
            at += len(response)
    return found


def _tile(segments: Sequence[Segment], device: torch.device) -> tuple[Tile, np.ndarray, np.ndarray]:
    """One tile, and the stream positions of its queries and keys (-1 where padded)."""
    P = _side(max(segment.prefix for segment in segments))
    R = _side(max(segment.length for segment in segments))
    rows = np.full((len(segments), P + R), -1, dtype=np.int64)
    for row, segment in zip(rows, segments, strict=True):
        # Padded before the prefix, so that a query's distance to each key is that of its columns.
        row[P - segment.prefix : P] = segment.prefix_start + np.arange(segment.prefix)
        row[P : P + segment.length] = segment.start + np.arange(segment.length)
    queries, keys = rows[:, P:].reshape(-1), rows.reshape(-1)
    real = torch.from_numpy(queries[:, None] >= 0).to(device)
    tile = Tile(
        len(segments),
        P,
        R,
        torch.tensor([P - segment.prefix for segment in segments], device=device),
        # Padding reads position 0, a real row: masked, it costs a product and no branch.
        torch.from_numpy(queries.clip(min=0)).to(device),
        torch.from_numpy(keys.clip(min=0)).to(device),
        None if bool(real.all()) else real,
    )
    return tile, queries, keys


def _ways_back(rows: np.ndarray, length: int, device: torch.device) -> tuple[Tensor, ...]:
    """For each stream position the rows that hold it: (length,) each, as many as it takes."""
    # Rows sorted by the position they hold: gathering back is then a sum of few index_selects,
    # the same every time, where index_add on a GPU adds in any order.
    order = np.argsort(rows, kind="stable")
    order = order[np.searchsorted(rows[order], 0) :]
    held = rows[order]
    occurrence = np.arange(len(held)) - np.searchsorted(held, held)
    found = np.full((int(occurrence.max()) + 1, length), len(rows), dtype=np.int64)
    found[occurrence, held] = order
    return tuple(torch.from_numpy(found).to(device))


def _side(length: int) -> int:
    return -(-length // SIDE_MULTIPLE) * SIDE_MULTIPLE


def _blocks(R: int) -> list[tuple[int, int]]:
    return [(a, min(a + QUERY_BLOCK, R)) for a in range(0, R, QUERY_BLOCK)]


def _cuts(segments: Sequence[Segment], cost: float) -> list[tuple[int, int]]:
    """Contiguous runs of sorted segments with the least padded work (dynamic programming)."""
    best = [0.0] + [np.inf] * len(segments)
    came = [0] * (len(segments) + 1)
    for last in range(1, len(segments) + 1):
        R, P = _side(segments[last - 1].length), 0
        blocks = _blocks(R)
        own = sum((b - a) * b for a, b in blocks)
        # A longer tile can only pad more, yet saves a block's fixed cost: all lengths are tried.
        for first in range(last - 1, max(-1, last - 1 - MOST_SEGMENTS), -1):
            P = max(P, _side(segments[first].prefix))
            work = (last - first) * (own + R * P) + len(blocks) * cost
            if best[first] + work < best[last]:
                best[last], came[last] = best[first] + work, first
    cuts: list[tuple[int, int]] = []
    last = len(segments)
    while last:
        cuts.append((came[last], last))
        last = came[last]
    return cuts[::-1]


def _masks(tile: Tile, window: int | None, dtype: torch.dtype) -> Masks:
    device = tile.padding_N.device
    most = int(tile.padding_N.max())
    padded = torch.arange(most, device=device) < tile.padding_N[:, None, None]
    at_Q = torch.arange(min(QUERY_BLOCK, tile.R), device=device)
    gone = None
    if window is not None:
        at_L = torch.arange(tile.P + tile.R, device=device)
        gone = _hidden(at_L[tile.P :, None] - at_L >= window, dtype)
    causal_QQ = _hidden(at_Q > at_Q[:, None], dtype)
    return Masks(_hidden(padded, dtype) if most else None, causal_QQ, gone)


def _hidden(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return mask.masked_fill_(hidden, -torch.inf)
