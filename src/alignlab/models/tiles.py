"""Cut attention over a packed stream into dense blocks.

A segment is a prompt, or a response with its prompt as prefix. Segments of similar lengths form a
tile: prefixes are padded at their start to P positions, segments at their end to R. Distances
between query and key columns are then the same in all segments, and attention is a few batched
products. Padding exists inside attention only.
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
"""Multiple of padded lengths, for few distinct shapes and whole vector registers."""

QUERY_BLOCK = 128
"""Queries of one block, which skips the keys after its end."""

TILE_COST = 10_000
"""Fixed cost of a block on a CPU, in query-key pairs."""
DEVICE_TILE_COST = 4_000_000
"""Fixed cost of a block on an accelerator, in query-key pairs."""
MOST_SEGMENTS = 64
"""Most segments of a tile, which bounds the search for the best cut."""


class Segment(NamedTuple):
    """Run of queries in the stream, with the prefix that precedes it."""

    start: int
    """Stream position of the first token."""
    length: int
    """Number of tokens."""
    prefix_start: int
    """Stream position of the prefix."""
    prefix: int
    """Number of tokens of the prefix, the root included."""
    root: int = 0
    """Number of tokens of the prefix that stand at the start of the stream."""


class Masks(NamedTuple):
    """Additive attention masks: -inf where a key is masked, else 0."""

    padding_NM: Tensor | None
    """(N, 1, M): mask of padded prefixes over the first M keys; None without padding."""
    causal_QQ: Tensor
    """(Q, Q): causal mask over the block's own keys."""
    window_RL: Tensor | None
    """(R, P + R): mask of keys outside the sliding window; None without one."""


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
    """(N * R, 1): True for real queries; None without padding."""

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """First and last (exclusive) query of each block."""
        return _blocks(self.R)


@dataclass(frozen=True)
class TileLayout:
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
        """Return the masks of a tile; they are built once per window and type."""
        # A window that no sequence exceeds masks nothing: share the masks without one.
        if window is not None and window >= self.longest:
            window = None
        key = (tile, window, dtype)
        if key not in self._masks:
            self._masks[key] = _masks(self.tiles[tile], window, dtype)
        return self._masks[key]


def layout(batch: PackedBatch) -> TileLayout:
    """Cut a packed batch into tiles that waste little padding."""
    device = batch.token_1T.device
    # A tile costs as much as its longest segment and prefix: sorted, the best tiles are runs.
    segments = sorted(segments_of(batch), key=lambda s: (s.length, s.prefix))
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
    return TileLayout(
        tuple(tiles), query_T, _ways_back(np.concatenate(keys), length, device), longest
    )


def segments_of(batch: PackedBatch) -> list[Segment]:
    """Return the prompts and responses of a batch as segments, in order of the stream."""
    root = batch.root
    found = [Segment(0, root, 0, 0)] if root else []
    for start, group in zip(batch.prompt_start_B, batch.groups, strict=True):
        prompt = len(group.prompt_T)
        found.append(Segment(start, prompt - root, start, root, root))
        at = start + prompt - root
        for response in group.responses:
            found.append(Segment(at, len(response), start, prompt, root))
            at += len(response)
    return found


def _tile(segments: Sequence[Segment], device: torch.device) -> tuple[Tile, np.ndarray, np.ndarray]:
    """Make a tile; return it with the stream positions of queries and keys, -1 where padded."""
    P = _side(max(segment.prefix for segment in segments))
    R = _side(max(segment.length for segment in segments))
    rows = np.full((len(segments), P + R), -1, dtype=np.int64)
    for row, segment in zip(rows, segments, strict=True):
        # Padded before the prefix, so that column distances equal token distances.
        begin = P - segment.prefix
        row[begin : begin + segment.root] = np.arange(segment.root)
        own = np.arange(segment.prefix - segment.root)
        row[begin + segment.root : P] = segment.prefix_start + own
        row[P : P + segment.length] = segment.start + np.arange(segment.length)
    queries, keys = rows[:, P:].reshape(-1), rows.reshape(-1)
    real = torch.from_numpy(queries[:, None] >= 0).to(device)
    tile = Tile(
        len(segments),
        P,
        R,
        torch.tensor([P - segment.prefix for segment in segments], device=device),
        # Padding reads position 0, a real row: masking it is cheaper than a branch.
        torch.from_numpy(queries.clip(min=0)).to(device),
        torch.from_numpy(keys.clip(min=0)).to(device),
        None if bool(real.all()) else real,
    )
    return tile, queries, keys


def _ways_back(rows: np.ndarray, length: int, device: torch.device) -> tuple[Tensor, ...]:
    """Return the rows that hold each stream position, as index tensors of (length,) each."""
    # Sorted by position, gradients are gathered by a few index_selects in a fixed order;
    # index_add on a GPU adds in any order, and runs would not be reproducible.
    order = np.argsort(rows, kind="stable")
    order = order[np.searchsorted(rows[order], 0) :]
    held = rows[order]
    occurrence = np.arange(len(held)) - np.searchsorted(held, held)
    found = np.full((int(occurrence.max()) + 1, length), len(rows), dtype=np.int64)
    found[occurrence, held] = order
    return tuple(torch.from_numpy(found).to(device))


def _side(length: int) -> int:
    """Round a length up to a padded length."""
    return -(-length // SIDE_MULTIPLE) * SIDE_MULTIPLE


def _blocks(R: int) -> list[tuple[int, int]]:
    """Return first and last (exclusive) query of the blocks of a tile."""
    return [(a, min(a + QUERY_BLOCK, R)) for a in range(0, R, QUERY_BLOCK)]


def _cuts(segments: Sequence[Segment], cost: float) -> list[tuple[int, int]]:
    """Split sorted segments into runs with the least padded work, by dynamic programming."""
    best = [0.0] + [np.inf] * len(segments)
    came = [0] * (len(segments) + 1)
    for last in range(1, len(segments) + 1):
        R, P = _side(segments[last - 1].length), 0
        blocks = _blocks(R)
        own = sum((b - a) * b for a, b in blocks)
        # A longer tile pads more but saves the fixed cost of blocks: try all lengths.
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
    """Build the masks of a tile; one causal mask serves all of its blocks."""
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
    """Return an additive mask: -inf where hidden, else 0."""
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return mask.masked_fill_(hidden, -torch.inf)
