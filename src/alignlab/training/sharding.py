"""Shard weights over processes by FSDP2 (`torch.distributed.fsdp.fully_shard`).

Each decoder layer is a unit, and the rest of the model (embeddings, last norm, head) another. The
model holds shards in the compute type; masters and optimiser states are float32 values of the same
shards, as ordinary tensors, so that any optimiser applies.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from alignlab.models.adapters import base_of
from alignlab.models.load import LanguageModel
from alignlab.training.distributed import DistributedContext
from alignlab.training.precision import Weights


class ShardedWeights(Weights):
    """Weights in training of which each process holds shards; methods are collective.

    Args:
        model: the same whole model in every process, on the CPU; its layers move to this process's
            device one by one and become shards.
        dtype: "float32" or "bfloat16".
        world: processes that hold the shards.
    """

    def __init__(self, model: Any, dtype: str, world: DistributedContext) -> None:
        self._world = world
        # The main rank samples and saves from a whole copy: gathering shards for each forward pass
        # would block all ranks.
        self._whole = copy.deepcopy(model) if world.is_main else None
        super().__init__(model, dtype)
        whole = self.masters
        self._base = base_of(model)
        _shard(self._base, world)
        trained = dict(model.named_parameters())
        self._used = [trained[name] for name in self.names]
        self._frozen = []
        self.masters = [
            _own(parameter) if self._shared else _own(_like(parameter, master.detach()))
            for parameter, master in zip(self._used, whole, strict=True)
        ]
        self.through = _forwarding(self._base)

    def collect_gradients(self) -> None:
        """Add the shards' gradients to the masters', as sums over processes."""
        for parameter, master in zip(self._used, self.masters, strict=True):
            if parameter.grad is None:
                continue
            # FSDP2 averages gradients; a step divides by the total weight of all processes itself.
            own = _own(parameter.grad).float() * self._world.size
            master.grad = own if master.grad is None else master.grad.add_(own)
            parameter.grad = None

    def refresh(self) -> None:
        """Copy the masters' values to the model's shards."""
        # After a pass without gradient FSDP2 keeps the outermost unit gathered, which is now stale.
        self._base.reshard()
        if not self._shared:
            with torch.no_grad():
                for parameter, master in zip(self._used, self.masters, strict=True):
                    _own(parameter).copy_(master)

    def part(self, index: int, whole: Tensor) -> Tensor:
        """Return this process's shard of a tensor of the shape of a trained parameter."""
        return _own(_like(self._used[index], whole.to(self._used[index].device)))

    def whole(self, index: int, part: Tensor) -> Tensor | None:
        """Gather a tensor from the shards of all processes; None on worker ranks."""
        like = self._used[index]
        assert isinstance(like, DTensor)
        spread = DTensor.from_local(
            part.detach(),
            like.device_mesh,
            like.placements,
            run_check=False,
            shape=like.shape,
            stride=like.stride(),
        )
        # Collective: every process must call it, in the same order, though only one needs it.
        full = spread.full_tensor()
        return full.cpu() if self._world.is_main else None

    def model(self, lm: LanguageModel, values: Mapping[str, Tensor]) -> LanguageModel:
        """Return the main rank's whole copy on the CPU, with the given weights; else `lm`."""
        if self._whole is None:
            return lm
        with torch.no_grad():
            for name, parameter in self._whole.named_parameters():
                if name in values:
                    parameter.data = values[name].clone()
        return replace(lm, model=self._whole, device=torch.device("cpu"))

    def restore(self) -> None:
        """Do nothing: the trained model is the whole copy that `model` returns."""


def shared_out(model: Any, world: DistributedContext) -> Callable[[Callable[[], Any]], Any]:
    """Shard a model that is not trained; return the caller of its forward passes."""
    base = base_of(model)
    _shard(base, world)
    return _forwarding(base)


def _forwarding(base: Any) -> Callable[[Callable[[], Any]], Any]:
    """Return a caller of functions of the sharded model that gathers weights around them."""
    # FSDP2 gathers weights around registered methods alone; scorers call the body and the head
    # separately, so that both calls must lie inside one registered method.
    base.forward_through = MethodType(lambda self, forward: forward(), base)
    register_fsdp_forward_method(base, "forward_through")

    def call(make: Callable[[], Any]) -> Any:
        found: list[Any] = []

        def forward() -> list[Tensor]:
            found.append(make())
            return _tensors(found[0])

        with warnings.catch_warnings():
            # FSDP2 warns of in-place writes to views of its outputs, which nothing here makes.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            base.forward_through(forward)
        return found[0]

    return call


def _tensors(found: Any) -> list[Tensor]:
    """Return the tensors of a scorer's output, on which FSDP2 sets its backward hooks."""
    assert is_dataclass(found)
    values = [getattr(found, field.name) for field in fields(found)]
    return [value for value in values if isinstance(value, Tensor)]


def _shard(base: Any, world: DistributedContext) -> None:
    """Shard a model in place, layer by layer, with gradients reduced in float32."""
    mesh = init_device_mesh(world.device, (world.size,))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for layer in _layers(base):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(base, mesh=mesh, mp_policy=policy)


def _layers(base: Any) -> list[Any]:
    """Return the decoder layers: the modules that transformers marks as not to be split."""
    names = set(getattr(base, "_no_split_modules", None) or ())
    found = [module for module in base.modules() if type(module).__name__ in names]
    if found:
        return found
    # Models with custom code mark nothing: their decoder layers are the longest list of modules.
    lists = [m for m in base.modules() if isinstance(m, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=()))


def _own(tensor: Tensor) -> Tensor:
    """Return this process's shard, in the same memory."""
    assert isinstance(tensor, DTensor)
    return tensor._local_tensor.detach()


def _like(parameter: Tensor, whole: Tensor) -> Tensor:
    """Shard a tensor that every process holds whole, placed as a parameter."""
    assert isinstance(parameter, DTensor)
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
