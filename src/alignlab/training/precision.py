"""float32 master weights, and what the model computes with.

In bfloat16 the weights are cast once a step: the model's parameters hold the bfloat16 copies,
the optimiser works on the masters, and gradients of micro-batches are summed in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from alignlab.models.load import DTYPES, LanguageModel


class Weights:
    """The weights in training of a model, whose parameters are changed to the compute type.

    Args:
        model: its parameters with `requires_grad` are trained.
        dtype: "float32" or "bfloat16".
    """

    def __init__(self, model: Any, dtype: str) -> None:
        self.compute = DTYPES[dtype]
        self.through: Any = None
        """Caller of forward passes (see `Scorer`); None where there is none."""
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self._used = [parameter for _, parameter in named]
        self._frozen = [
            (p, p.data)
            for p in model.parameters()
            if not p.requires_grad and p.is_floating_point() and p.dtype != self.compute
        ]
        self.masters = [p.detach().float().requires_grad_() for p in self._used]
        for parameter, original in self._frozen:
            parameter.data = original.to(self.compute)
        for parameter, master in zip(self._used, self.masters, strict=True):
            parameter.grad = None
            parameter.data = master.data.to(self.compute)

    @property
    def _shared(self) -> bool:
        """True where parameters and masters share memory."""
        return self.compute == torch.float32

    def collect_gradients(self) -> None:
        """Add the gradients of a backward pass to the masters', and clear them."""
        for parameter, master in zip(self._used, self.masters, strict=True):
            if parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad += parameter.grad
            parameter.grad = None

    def drop_gradients(self) -> None:
        """Forget what a backward pass that failed has left."""
        for parameter in self._used:
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        return [m.grad for m in self.masters if m.grad is not None]

    def refresh(self) -> None:
        """Give the model the masters' new values."""
        if not self._shared:
            with torch.no_grad():
                torch._foreach_copy_([p.data for p in self._used], [m.data for m in self.masters])

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Set the masters, and the model, to named values."""
        with torch.no_grad():
            for i, (name, master) in enumerate(zip(self.names, self.masters, strict=True)):
                master.copy_(self.part(i, values[name]))
        self.refresh()

    def part(self, index: int, whole: Tensor) -> Tensor:
        """Return this process's part of a tensor of the shape of a trained parameter."""
        return whole

    def whole(self, index: int, part: Tensor) -> Tensor | None:
        """The tensor that the processes keep parts of; None where another process gets it."""
        return part.detach()

    def values(self) -> dict[str, Tensor]:
        """The masters by name; empty where another process gets them."""
        named = zip(self.names, self.masters, strict=True)
        found = {name: self.whole(i, master) for i, (name, master) in enumerate(named)}
        return {name: value for name, value in found.items() if value is not None}

    def model(self, lm: LanguageModel, values: Mapping[str, Tensor]) -> LanguageModel:
        """The model in training, to be saved or asked; `values` are what `values()` gives."""
        return lm

    def restore(self) -> None:
        """Leave the model with float32 masters as its trained parameters."""
        for parameter, master in zip(self._used, self.masters, strict=True):
            parameter.grad = None
            parameter.data = master.data
        for parameter, original in self._frozen:
            parameter.data = original
