"""Train in float32 or bfloat16 with float32 master weights.

In bfloat16 the weights are cast once per step: the model's parameters are bfloat16 copies, the
optimiser updates the masters, and gradients of micro-batches are summed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from alignlab.machine import file_mapped
from alignlab.models.load import DTYPES, LanguageModel


class _Frozen:
    """Frozen parameter, cast to the compute type.

    Args:
        parameter: the parameter, whose data is replaced.
        compute: the compute type.
        needed: True where the values from before the cast are needed again.
    """

    def __init__(self, parameter: Tensor, compute: torch.dtype, needed: bool) -> None:
        data = parameter.data
        cast = data.to(compute)
        self.parameter = parameter
        self._dtype = data.dtype if needed else compute
        kept = needed and not torch.equal(cast.to(data.dtype), data)
        self.original = data if kept else None
        """Values before the cast; None where it is exact, as of bfloat16 values held in float32, or
        where they are not needed."""
        parameter.data = cast

    def restore(self) -> None:
        """Give the parameter its values and type from before the cast, where they are needed."""
        data = self.original
        self.parameter.data = self.parameter.data.to(self._dtype) if data is None else data


class Weights:
    """Weights of a model in training; its parameters are cast to the compute type.

    Args:
        model: model whose parameters with `requires_grad` are trained.
        dtype: "float32" or "bfloat16".
        alone: True where the trained parameters alone are saved; the others stay in `dtype`.
    """

    def __init__(self, model: Any, dtype: str, *, alone: bool = False) -> None:
        self.compute = DTYPES[dtype]
        self._model = model
        self.through: Any = None
        """Caller of forward passes for sharded weights (see `Scorer`); None calls them directly."""
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self._used = [parameter for _, parameter in named]
        self._frozen = [
            _Frozen(p, self.compute, needed=not alone)
            for p in model.parameters()
            if not p.requires_grad and p.is_floating_point() and p.dtype != self.compute
        ]
        self.masters = [p.detach().float().requires_grad_() for p in self._used]
        for parameter, master in zip(self._used, self.masters, strict=True):
            parameter.grad = None
            parameter.data = master.data.to(self.compute)

    @property
    def _shared(self) -> bool:
        """Return True where parameters and masters share memory."""
        return self.compute == torch.float32

    def bytes_to_come(self) -> int:
        """Return the bytes of gradients and moments, and of masters still mapped from a file."""
        numbers = sum(m.numel() for m in self.masters)
        mapped = file_mapped([m.data_ptr() for m in self.masters])
        copied = sum(m.nbytes for m, file in zip(self.masters, mapped, strict=True) if file)
        # Float32 sums of gradients, a pass's gradients in the compute type, and AdamW's moments.
        return int(numbers * (4 + self.compute.itemsize + 8) + copied)

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
        """Clear the gradients of a failed backward pass."""
        for parameter in self._used:
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """Return the masters' gradients."""
        return [m.grad for m in self.masters if m.grad is not None]

    def refresh(self) -> None:
        """Copy the masters' values to the model."""
        if not self._shared:
            with torch.no_grad():
                torch._foreach_copy_([p.data for p in self._used], [m.data for m in self.masters])

    @contextmanager
    def cast_to(self, dtype: str) -> Iterator[None]:
        """Compute in another type inside the block, from the masters and the frozen originals."""
        original = {id(f.parameter): f.original for f in self._frozen if f.original is not None}
        masters = {id(p): m.data for p, m in zip(self._used, self.masters, strict=True)}
        used = [(p, p.data) for p in self._model.parameters() if p.is_floating_point()]
        try:
            for parameter, data in used:
                exact = masters.get(id(parameter), original.get(id(parameter), data))
                parameter.data = exact.to(DTYPES[dtype])
            yield
        finally:
            for parameter, data in used:
                parameter.data = data

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Set masters and model to named values."""
        with torch.no_grad():
            for i, (name, master) in enumerate(zip(self.names, self.masters, strict=True)):
                master.copy_(self.part(i, values[name]))
        self.refresh()

    def load_parts(self, parts: Mapping[str, Tensor]) -> None:
        """Set masters and model to this process's parts by name."""
        with torch.no_grad():
            for name, master in zip(self.names, self.masters, strict=True):
                master.copy_(parts[name])
        self.refresh()

    def part(self, index: int, whole: Tensor) -> Tensor:
        """Return this process's part of a tensor of the shape of a trained parameter."""
        return whole

    def placed(self, index: int, part: Tensor) -> Tensor:
        """Return a part of a trained parameter's shape in its place in the whole, for files."""
        return part.detach()

    def whole(self, index: int, part: Tensor) -> Tensor | None:
        """Return a whole tensor from its parts; with sharded weights, None on worker ranks."""
        return part.detach()

    def values(self, prefix: str = "") -> dict[str, Tensor]:
        """Return the whole masters by name; with sharded weights, none on worker ranks.

        Args:
            prefix: start of the names to return, which is taken off; all by default.
        """
        named = zip(self.names, self.masters, strict=True)
        found = {
            name.removeprefix(prefix): self.whole(i, master)
            for i, (name, master) in enumerate(named)
            if name.startswith(prefix)
        }
        return {name: value for name, value in found.items() if value is not None}

    def model(self, lm: LanguageModel, values: Mapping[str, Tensor]) -> LanguageModel:
        """Return the model with the weights of `values()`, for saving."""
        return lm

    @contextmanager
    def sampling(self, lm: LanguageModel) -> Iterator[LanguageModel]:
        """Yield the model as it is sampled from in training; every process enters the block."""
        yield lm

    def restore(self) -> None:
        """Set the model's trained parameters to the float32 masters, at the end of training."""
        for parameter, master in zip(self._used, self.masters, strict=True):
            parameter.grad = None
            parameter.data = master.data
        for frozen in self._frozen:
            frozen.restore()
