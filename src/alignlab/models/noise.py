"""Add NEFTune noise to a model's embeddings during training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class EmbeddingNoise:
    """NEFTune noise (arXiv 2310.05914): uniform(-1, 1) * alpha / sqrt(L * d) on embeddings."""

    alpha: float
    generator: torch.Generator


def noisy(model: Any, length: Tensor, noise: EmbeddingNoise | None) -> Any:
    """Add embedding noise inside the block; `length` broadcasts over (batch, T)."""
    if noise is None:
        return nullcontext()

    def hook(module: Any, inputs: Any, embedded: Tensor) -> Tensor:
        drawn = torch.rand(embedded.shape, generator=noise.generator).mul_(2).sub_(1)
        bound = noise.alpha / (length * embedded.shape[-1]).sqrt()
        return embedded + (drawn * bound[..., None]).to(embedded)

    return _hooked(model.get_input_embeddings(), hook)


@contextmanager
def _hooked(module: Any, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
