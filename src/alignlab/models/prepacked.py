"""Multiply by copies of weights laid out for oneDNN beforehand, while few rows are decoded.

In bfloat16 on a CPU, torch lays a weight out anew for every product. With few rows that takes
longer than the product: SmolLM2 135M decodes 4 rows 1.27 times as fast with weights laid out
once, 48 rows 1.1 times, 120 rows no faster (docs/performance.md).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from alignlab.models import onednn

MOST_ROWS = 64
"""Most rows of a product that gain from it."""
FEWEST_STEPS = 16
"""Fewest steps over which laying the weights out pays."""
MOST_BYTES = 1 << 30
"""Most memory of the copies. A constant, so that results do not depend on the memory at hand."""


def prepacked(model: Any, rows: int, steps: int) -> AbstractContextManager[None]:
    """Return a context, entered many times, in which linear layers use copies of their weights.

    The copies are made here, so that they hold the weights of this moment. Where they would not
    pay or have no kernel, the context changes nothing.

    Args:
        model: a transformers model.
        rows: rows of each product.
        steps: number of forward passes to follow.
    """
    if rows > MOST_ROWS or steps < FEWEST_STEPS or not onednn.available():
        return nullcontext()
    layers = [layer for layer in model.modules() if _served(layer)]
    if not layers or copied_bytes(model) > MOST_BYTES:
        return nullcontext()
    return _Entered({layer: _packed(layer, rows) for layer in layers})


def copied_bytes(model: Any) -> int:
    """Return the size in bytes of the weights that `prepacked` copies, whatever its limits."""
    return sum(layer.weight.nbytes for layer in model.modules() if _served(layer))


class _Entered(AbstractContextManager[None]):
    """Context that can be entered again, in which layers have other forward functions."""

    def __init__(self, forward_of: dict[torch.nn.Linear, Any]) -> None:
        self._forward_of = forward_of

    def __enter__(self) -> None:
        for layer, forward in self._forward_of.items():
            layer.__dict__["forward"] = forward

    def __exit__(self, *raised: object) -> None:
        for layer in self._forward_of:
            del layer.__dict__["forward"]


def _served(layer: Any) -> bool:
    return (
        type(layer) is torch.nn.Linear
        and type(layer.weight) in (Tensor, torch.nn.Parameter)
        and layer.weight.dtype == torch.bfloat16
        and layer.weight.device.type == "cpu"
        and "forward" not in layer.__dict__
    )


def _packed(layer: torch.nn.Linear, rows: int) -> Any:
    weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), rows)
    bias = None if layer.bias is None else layer.bias.detach()
    multiply = torch.ops.mkldnn._linear_pointwise.default

    def forward(x: Tensor) -> Tensor:
        found: Tensor = multiply(x, weight, bias, "none", [], "")
        return found

    return forward
