"""How attention over a packed stream is cut into dense blocks.

Groups of equal K and similar lengths form a tile. Within a tile, prompts are padded to P and
responses to R positions, so that attention is a few batched products: prompts over themselves,
responses over [their prompt | themselves]. Padding exists inside attention only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from alignlab.models.packed import PackedBatch, TokenGroup

SIDE_MULTIPLE = 16
"""Padded lengths are multiples of this: few shapes, and whole vector registers."""

TILE_COST = 60_000
"""Score elements whose work equals the fixed cost of one more tile."""


@dataclass(frozen=True)
class Tile:
    """G groups of K responses, prompts padded to P and responses to R positions."""

    G: int
    K: int
    P: int
    R: int
    prompt_G: Tensor
    """Prompt lengths."""
    prompt_rows: Tensor
    """Stream position of each of the G*P padded prompt rows; 0 where padded."""
    response_rows: Tensor
    """Stream position of each of the G*K*R padded response rows; 0 where padded."""
    prompt_real: Tensor | None
    """1 for real and 0 for padded prompt rows (G*P, 1); None without padding."""
    response_real: Tensor | None


@dataclass(frozen=True)
class Layout:
    """The tiles of one micro-batch and the way back to the stream."""

    tiles: tuple[Tile, ...]
    scatter_T: Tensor
    """Row of each stream position among all tiles' rows: prompts, then responses, by tile; any
    row for filling."""
    tokens: int
    """Real positions of the stream."""
    longest: int
    """Tokens of the longest prompt + response."""
    _masks: dict[tuple[int, int | None, torch.dtype], tuple[Tensor, Tensor]] = field(
        default_factory=dict
    )

    def masks(self, tile: int, window: int | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Additive masks of a tile: prompts (P, P) and responses (G*K, R, P + R)."""
        if window is not None and window >= self.longest:
            window = None
        key = (tile, window, dtype)
        if key not in self._masks:
            self._masks[key] = _masks(self.tiles[tile], window, dtype)
        return self._masks[key]


def layout(batch: PackedBatch) -> Layout:
    """Cut a packed batch into tiles that waste little padding."""
    groups = batch.groups
    order = sorted(range(len(groups)), key=lambda i: _shape(groups[i]))
    scatter_T = np.zeros(batch.token_1T.shape[1], dtype=np.int64)
    tiles: list[Tile] = []
    rows = 0
    for first, last in _cuts([_shape(groups[i]) for i in order]):
        members = order[first:last]
        starts = [batch.prompt_start_B[i] for i in members]
        tile, taken = _tile([groups[i] for i in members], starts, batch.token_1T.device)
        real = taken >= 0
        scatter_T[taken[real]] = rows + np.flatnonzero(real)
        rows += len(taken)
        tiles.append(tile)
    longest = max(group.longest for group in groups)
    rows_T = torch.from_numpy(scatter_T).to(batch.token_1T.device)
    return Layout(tuple(tiles), rows_T, batch.tokens, longest)


def _tile(
    groups: Sequence[TokenGroup], starts: Sequence[int], device: torch.device
) -> tuple[Tile, np.ndarray]:
    """One tile, and the stream position of each of its rows (-1 where padded)."""
    K = len(groups[0].responses)
    P = _side(max(len(group.prompt_T) for group in groups))
    R = _side(max(len(response) for group in groups for response in group.responses))
    prompts = np.full((len(groups), P), -1, dtype=np.int64)
    responses = np.full((len(groups) * K, R), -1, dtype=np.int64)
    for g, (group, start) in enumerate(zip(groups, starts, strict=True)):
        at = start + len(group.prompt_T)
        prompts[g, : at - start] = np.arange(start, at)
        for k, response in enumerate(group.responses):
            responses[g * K + k, : len(response)] = np.arange(at, at + len(response))
            at += len(response)

    def rows(block: np.ndarray) -> tuple[Tensor, Tensor | None]:
        real = torch.from_numpy(block.reshape(-1, 1) >= 0).to(device)
        index = torch.from_numpy(block.reshape(-1).clip(min=0)).to(device)
        return index, (None if bool(real.all()) else real)

    prompt_rows, prompt_real = rows(prompts)
    response_rows, response_real = rows(responses)
    lengths = torch.tensor([len(group.prompt_T) for group in groups], device=device)
    tile = Tile(
        len(groups), K, P, R, lengths, prompt_rows, response_rows, prompt_real, response_real
    )
    return tile, np.concatenate([prompts.reshape(-1), responses.reshape(-1)])


def _side(length: int) -> int:
    return -(-length // SIDE_MULTIPLE) * SIDE_MULTIPLE


def _shape(group: TokenGroup) -> tuple[int, int, int]:
    """Sort key: responses, longest response, prompt length."""
    return len(group.responses), max(map(len, group.responses)), len(group.prompt_T)


def _cuts(shapes: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Contiguous runs of sorted groups with the least padded work (dynamic programming)."""
    best = [0.0] + [np.inf] * len(shapes)
    came = [0] * (len(shapes) + 1)
    for last in range(1, len(shapes) + 1):
        K, R, P = shapes[last - 1]
        for first in range(last - 1, -1, -1):
            if shapes[first][0] != K:
                break
            P, R = max(P, shapes[first][2]), max(R, shapes[first][1])
            work = (last - first) * (P * P + K * R * (P + R)) + TILE_COST
            if best[first] + work < best[last]:
                best[last], came[last] = best[first] + work, first
    cuts: list[tuple[int, int]] = []
    last = len(shapes)
    while last:
        cuts.append((came[last], last))
        last = came[last]
    return cuts[::-1]


def _masks(tile: Tile, window: int | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    device = tile.prompt_G.device
    at_P, at_R = torch.arange(tile.P, device=device), torch.arange(tile.R, device=device)
    prompt_PP = _seen(at_P[:, None] - at_P, window)
    # Distance from response position i to prompt position j is prompt + i - j.
    far_GRP = tile.prompt_G[:, None, None] + at_R[:, None] - at_P
    seen_GRP = _seen(far_GRP, window) & (at_P < tile.prompt_G[:, None, None])
    own_GRR = _seen(at_R[:, None] - at_R, window).expand(tile.G, -1, -1)
    seen_GRM = torch.cat([seen_GRP, own_GRR], dim=2)
    seen_NRM = seen_GRM.repeat_interleave(tile.K, dim=0)
    return _additive(prompt_PP, dtype), _additive(seen_NRM, dtype)


def _seen(distance: Tensor, window: int | None) -> Tensor:
    """Whether a key so many positions back is seen."""
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)
