"""Attention of one new token per row to [its prompt, shared by the prompt's rows | its own tokens].

Everything is batched matrix products: the rows of a prompt meet its keys in one product, so that
these are neither copied nor read once per row. torch's own attention takes 5 to 15 times as long
for a single query on a CPU. Prompts go in buckets of similar length, padded on the left.

Axes: L rows, G prompts of a bucket, K places for rows of a prompt, H query heads, J key heads, P
prompt positions, C places for own tokens, D numbers per head.

Keys are kept in float32 and scores computed in it: rounded to bfloat16, scores of models with large
keys (Qwen 2) or normalised ones (Gemma 3) move probabilities by several per cent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, DynamicLayer

from alignlab.models.attention import check_served, through
from alignlab.models.head import at_least_float32

NAME = "alignlab_one_query"
"""Name of the attention implementation in transformers' interface."""

CHUNK = 32
"""Places for own tokens added at a time; products keep their shape until they are full."""


class AttentionCall(NamedTuple):
    """Settings of an attention call, apart from its tensors."""

    scale: float
    """Factor on query-key products."""
    softcap: float | None
    """Cap on scores: s becomes cap * tanh(s / cap), as in Gemma 2."""
    window: int | None
    """Sliding window: keys this many positions back or more are masked; None masks none."""


@dataclass(frozen=True)
class PromptStates:
    """Keys, in float32 at least, and values of one layer for a bucket's prompts, (G, J, P, D)."""

    keys: Tensor
    values: Tensor

    def select(self, prompt_G: Tensor) -> PromptStates:
        """Return the states of the given prompts."""
        return PromptStates(self.keys[prompt_G], self.values[prompt_G])


@dataclass(frozen=True)
class Bucket:
    """Prompts of similar length and the rows that continue them, which are contiguous."""

    layers: tuple[PromptStates, ...]
    real_GP: Tensor
    """Mask of real prompt tokens; False is padding."""
    first: int
    """Index of the bucket's first row."""
    prompt_L: Tensor
    """Index, within the bucket, of each row's prompt; rising."""
    place_L: Tensor | None
    """Place of each row among G * K; None where every place holds the row of its number."""
    row_S: Tensor | None
    """Row in each of G * K places (any, where none is); None where place_L is."""

    @property
    def rows(self) -> slice:
        """Rows of the bucket within the batch."""
        return slice(self.first, self.first + len(self.prompt_L))


def bucket(
    layers: tuple[PromptStates, ...], real_GP: Tensor, prompt_L: Tensor, *, first: int
) -> Bucket:
    """Build a bucket and give its rows places, the same number for each prompt."""
    # All prompts take as many places as the one with the most rows: products need equal shapes.
    count_G = torch.bincount(prompt_L, minlength=len(real_GP))
    K = int(count_G.max())
    if len(prompt_L) == K * len(real_GP):
        return Bucket(layers, real_GP, first, prompt_L, None, None)
    start_G = count_G.cumsum(0) - count_G
    row_L = torch.arange(len(prompt_L), device=prompt_L.device)
    place_L = prompt_L * K + row_L - start_G[prompt_L]
    row_S = row_L.new_zeros(K * len(real_GP))
    row_S[place_L] = row_L
    return Bucket(layers, real_GP, first, prompt_L, place_L, row_S)


def without(old: Bucket, row_M: Tensor, *, first: int) -> Bucket | None:
    """Return the bucket with some of its rows only (numbered within it); None where none remain."""
    if not len(row_M):
        return None
    prompt_M = old.prompt_L[row_M]
    layers, real_GP = old.layers, old.real_GP
    prompt_G, place_M = torch.unique(prompt_M, return_inverse=True)
    # Prompts nobody continues are dropped once they are many: that copies the others.
    if 4 * len(prompt_G) <= 3 * len(real_GP):
        layers = tuple(layer.select(prompt_G) for layer in layers)
        real_GP, prompt_M = real_GP[prompt_G], place_M
    return bucket(layers, real_GP, prompt_M, first=first)


class OwnStates:
    """Keys, in float32 at least, and values of one layer for rows' own tokens, (L, J, C, D)."""

    def __init__(self, key_L1: Tensor, value_L1: Tensor) -> None:
        # Zeros, since what is masked still meets its (zero) probability.
        shape = (*key_L1.shape[:2], CHUNK, key_L1.shape[3])
        self.keys = at_least_float32(key_L1.new_zeros(shape))
        self.values = value_L1.new_zeros((*value_L1.shape[:2], CHUNK, value_L1.shape[3]))

    def write(self, key_L1: Tensor, value_L1: Tensor, place: int) -> None:
        """Store the states, shape (L, J, 1, D), of every row's token at a place."""
        # Grown by chunks: a new shape at every token would be a new kernel at every token.
        if place == self.keys.shape[2]:
            self.keys, self.values = (pad(t, (0, 0, 0, CHUNK)) for t in (self.keys, self.values))
        self.keys[:, :, place : place + 1] = key_L1
        self.values[:, :, place : place + 1] = value_L1

    def select(self, row_M: Tensor) -> None:
        """Keep the states of the given rows."""
        self.keys, self.values = self.keys[row_M], self.values[row_M]


class OneQueryCache(Cache):
    """Key-value cache of prompts and rows, and the attention of rows to them."""

    def __init__(self, buckets: list[Bucket]) -> None:
        super().__init__(layer_class_to_replicate=DynamicLayer)
        self.own: list[OwnStates] = []
        self.buckets = buckets
        self.step = 0
        """Tokens that every row has before the one being fed."""
        self.calls = 0
        self.windows: set[int] = set()
        """Sliding windows named by the attention calls."""
        self._layer = 0
        self._masks: dict[int | None, list[Tensor]] = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store the new token's states; the attention call that follows reads the others here."""
        if layer_idx == len(self.own):
            self.own.append(OwnStates(key_states, value_states))
        self.own[layer_idx].write(key_states, value_states, self.step)
        self._layer = layer_idx
        return key_states, value_states

    def advance(self) -> None:
        """Count the fed token among the row's own."""
        self.step += 1
        self._masks.clear()

    def keep(self, row_M: Tensor) -> None:
        """Continue with the given rows only, in rising order."""
        for layer in self.own:
            layer.select(row_M)
        remaining: list[Bucket] = []
        first = 0
        for old in self.buckets:
            within = (row_M >= old.rows.start) & (row_M < old.rows.stop)
            new = without(old, row_M[within] - old.first, first=first)
            if new is not None:
                remaining.append(new)
                first = new.rows.stop
        self.buckets = remaining
        self._masks.clear()

    def attend(self, query_LHD: Tensor, ask: AttentionCall) -> Tensor:
        """Return attention outputs, shape (L, H, D), of every row's new token."""
        own = self.own[self._layer]
        rows, J, C, D = own.keys.shape
        # Scaled once here, D numbers a head, rather than every score of every key.
        query_LHD = at_least_float32(query_LHD) * ask.scale
        own_LHC = torch.bmm(
            query_LHD.view(rows * J, -1, D), own.keys.view(rows * J, C, D).transpose(1, 2)
        ).view(rows, -1, C)
        pieces = [
            _attend(query_LHD[b.rows], own_LHC[b.rows], own.values[b.rows], b, self._layer, m, ask)
            for b, m in zip(self.buckets, self._masks_for(ask.window, C, query_LHD), strict=True)
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _masks_for(self, window: int | None, places: int, like: Tensor) -> list[Tensor]:
        """Return masks to add to the scores of each bucket's rows, shape (L, 1, P + C)."""
        if window not in self._masks:
            self._masks[window] = [self._mask(b, window, places, like) for b in self.buckets]
        return self._masks[window]

    def _mask(self, b: Bucket, window: int | None, places: int, like: Tensor) -> Tensor:
        own_C = torch.arange(places, device=like.device)
        seen_C = own_C <= self.step
        seen_GP = b.real_GP
        if window is not None:
            # Prompts end where own tokens start, so that both are counted back from the same place.
            width = b.real_GP.shape[1]
            back_P = torch.arange(width, 0, -1, device=like.device) + self.step
            seen_GP = seen_GP & (back_P < window)
            seen_C = seen_C & (self.step - own_C < window)
        seen_LS = torch.cat([seen_GP[b.prompt_L], seen_C.expand(len(b.prompt_L), places)], dim=1)
        mask_LS = torch.zeros(seen_LS.shape, dtype=like.dtype, device=like.device)
        return mask_LS.masked_fill_(~seen_LS, -torch.inf)[:, None]


def _attend(
    query_LHD: Tensor,
    own_LHC: Tensor,
    value_LJCD: Tensor,
    b: Bucket,
    layer: int,
    mask_L1S: Tensor,
    ask: AttentionCall,
) -> Tensor:
    """Return outputs, shape (L, H, D), of one bucket's rows, given scores with their own tokens."""
    states = b.layers[layer]
    G, J, P, D = states.keys.shape
    rows, H, C = own_LHC.shape
    shared = torch.bmm(_by_prompt(query_LHD, b, J), states.keys.view(G * J, P, D).transpose(1, 2))
    score_LHS = torch.cat([_by_row(shared, b, H), own_LHC], dim=2)
    if ask.softcap is not None:
        score_LHS = torch.tanh(score_LHS.div_(ask.softcap)).mul_(ask.softcap)
    score_LHS += mask_L1S
    # One softmax over both parts: merging two would need their sums of exponentials.
    prob_LHS = torch.softmax(score_LHS, dim=-1, dtype=torch.float32).to(value_LJCD.dtype)
    shared = torch.bmm(_by_prompt(prob_LHS[:, :, :P], b, J), states.values.view(G * J, P, D))
    own = torch.bmm(prob_LHS[:, :, P:].reshape(rows * J, -1, C), value_LJCD.view(rows * J, C, D))
    return _by_row(shared, b, H) + own.view(rows, H, D)


def _by_prompt(rows_LHX: Tensor, b: Bucket, heads: int) -> Tensor:
    """Reshape (L, H, X) to (G*J, K*H/J, X): the rows of a prompt one below the other."""
    if b.row_S is not None:
        rows_LHX = rows_LHX[b.row_S]
    size = rows_LHX.shape[-1]
    G = len(b.real_GP)
    by_prompt = rows_LHX.reshape(G, len(rows_LHX) // G, heads, -1, size).transpose(1, 2)
    return by_prompt.reshape(G * heads, -1, size)


def _by_row(found: Tensor, b: Bucket, heads: int) -> Tensor:
    """Reshape (G*J, K*H/J, X) to (L, H, X), the inverse of `_by_prompt`."""
    G, size = len(b.real_GP), found.shape[-1]
    J = len(found) // G
    K = found.shape[1] * J // heads
    rows_LHX = found.view(G, J, K, -1, size).transpose(1, 2).reshape(G * K, heads, size)
    return rows_LHX if b.place_L is None else rows_LHX[b.place_L]


_active: list[OneQueryCache] = []


@contextmanager
def attending(configs: list[Any], cache: OneQueryCache) -> Iterator[None]:
    """Make the attention of models with these configurations use the cache."""
    with through(configs, NAME):
        _active.append(cache)
        try:
            yield
        finally:
            _active.remove(cache)


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Compute attention for transformers: (L, H, 1, D) in, (L, 1, H, D) out.

    Raises:
        Unserved: dropout, sinks, biases or a mask of the model's own.
    """
    cache = _active[-1]
    cache.calls += 1
    check_served(attention_mask, kwargs)
    window, scaling = kwargs.get("sliding_window"), kwargs.get("scaling")
    if window is not None:
        cache.windows.add(window)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    out_LHD = cache.attend(query[:, :, 0], AttentionCall(scale, kwargs.get("softcap"), window))
    return out_LHD[:, None], None


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Return no mask: the buckets hold it, so transformers need not build one."""


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _no_mask)
