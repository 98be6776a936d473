"""Compute float32 matrix products by oneDNN, which uses AVX-512 on every CPU that has it.

torch calls MKL for float32 products, which leaves AVX-512 unused on AMD CPUs: half the speed. The
choice depends only on CPU and shapes, so that runs are bitwise reproducible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

LEAST_WORK = 1 << 22
"""Fewest multiplications of a product worth compiling a kernel for."""


@cache
def available() -> bool:
    """Return True where this CPU and build of torch have the kernels."""
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def product(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    """Compute a @ b, by oneDNN where that is faster."""
    return _linear(a_MK, b_KN.t(), None) if _pays(a_MK, b_KN.shape[1]) else torch.mm(a_MK, b_KN)


class OneDNNLinears(TorchFunctionMode):
    """Mode in which large float32 linear layers on the CPU run on oneDNN."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.nn.functional.linear and not kwargs and _served(*args):
            x, weight, *bias = args
            flat = _Linear.apply(  # type: ignore[no-untyped-call]
                x.reshape(-1, x.shape[-1]), weight, bias[0] if bias else None
            )
            return flat.view(*x.shape[:-1], -1)
        return func(*args, **(kwargs or {}))


class _Linear(torch.autograd.Function):
    """Linear layer by oneDNN: x (R, in), weight (out, in), bias (out) or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            _linear(grad, weight.t(), None) if wanted[0] else None,
            _linear(grad.t(), x.t(), None) if wanted[1] else None,
            grad.sum(0) if wanted[2] else None,
        )


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def _served(x: Tensor, weight: Tensor, *bias: Tensor | None) -> bool:
    dense = (Tensor, torch.nn.Parameter)
    return (
        type(x) in dense
        and type(weight) in dense
        and weight.dtype == torch.float32
        and weight.ndim == 2
        and _pays(x, weight.shape[0])
    )


def _pays(x: Tensor, out: int) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.numel() * out >= LEAST_WORK
        and available()
    )
