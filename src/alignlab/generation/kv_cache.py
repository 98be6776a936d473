"""Key-value cache of a batch: transformers' own cache, with layers that grow in steps.

`DynamicLayer` copies all states at every token. `GrowingLayer` writes into a buffer with spare
room; sliding-window, linear and other layers stay as the model's configuration asks.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer

ROOM = 64
"""Positions added whenever a buffer is full."""
MOST_ROOM = 256
"""Most new positions allocated at the start; longer answers grow."""


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A dynamic cache layer whose keys and values are views of a larger buffer."""

    def lazy_initialization(self, key_states: Tensor, *args: Any) -> None:
        """Set up empty keys and values, shape (rows, heads, 0, size)."""
        value_states = args[0] if args else key_states
        self.dtype, self.device = key_states.dtype, key_states.device
        self._hold(key_states[:, :, :0], value_states[:, :, :0], positions=0)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append states of shape (rows, heads, new positions, size); return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self._positions, self._positions + key_states.shape[2]
        if end > self._keys.shape[2]:
            every = torch.arange(len(self._keys), device=self._keys.device)
            self.select(every, room=end - start + ROOM)
        self._keys[:, :, start:end] = key_states
        self._values[:, :, start:end] = value_states
        return self._hold(self._keys, self._values, positions=end)

    @property
    def room(self) -> int:
        """Positions that can be written before the buffer grows."""
        return self._keys.shape[2] - self._positions

    def select(self, rows: Tensor, room: int) -> None:
        """Keep (and repeat) the given rows, with room for `room` more positions."""
        held = self._positions
        keys, values = (_with_room(t[:, :, :held], rows, room) for t in (self._keys, self._values))
        self._hold(keys, values, positions=held)

    def _hold(self, keys: Tensor, values: Tensor, *, positions: int) -> tuple[Tensor, Tensor]:
        self._keys, self._values, self._positions = keys, values, positions
        views = keys[:, :, :positions], values[:, :, :positions]
        self.keys, self.values = views
        return views


def new_cache(config: PretrainedConfig) -> DynamicCache:
    """Make an empty cache for a model, its plain attention layers growing in steps."""
    cache = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[index] = GrowingLayer()  # type: ignore[no-untyped-call]
    return cache


def expand(cache: DynamicCache, rows: Tensor, room: int) -> None:
    """Repeat the prompts' states, one row per sample, with room for `room` new tokens."""
    for layer in cache.layers:
        if isinstance(layer, GrowingLayer) and layer.is_initialized:
            layer.select(rows, min(room, MOST_ROOM))
        else:
            cast(Any, layer).batch_select_indices(rows)


def select(cache: DynamicCache, rows: Tensor) -> None:
    """Keep the given rows."""
    for layer in cache.layers:
        if isinstance(layer, GrowingLayer) and layer.is_initialized:
            layer.select(rows, layer.room)
        else:
            cast(Any, layer).batch_select_indices(rows)


def _with_room(states: Tensor, rows: Tensor, room: int) -> Tensor:
    _, heads, held, size = states.shape
    buffer = states.new_empty((len(rows), heads, held + room, size))
    buffer[:, :, :held] = states[rows]
    return buffer
