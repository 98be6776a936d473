"""Cut models into shards by FSDP2 (`torch.distributed.fsdp.fully_shard`), and fill the shards.

Each decoder layer is a unit, and the rest of the model (embeddings, last norm, heads) another. All
parameters are cut along their rows, as `torch.chunk` cuts.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from alignlab.models.adapters import base_of
from alignlab.models.deferred import StoredWeights, exchange, first_layers_read, plain_name
from alignlab.models.probe import set_stand_in
from alignlab.models.values import ModelWithValueHead
from alignlab.training.distributed import DistributedContext

Through = Callable[[Callable[[], Any]], Any]
"""Caller of a function of the sharded model, which gathers the weights around it."""


def shared_out(model: Any, world: DistributedContext, stored: StoredWeights | None) -> Through:
    """Shard a model that is not trained; return the caller of its forward passes."""
    base = base_of(model)
    if stored is not None:
        stand_in_for(base, stored, world)
    shard(base, world)
    if stored is not None:
        fill(base, base, stored, world)
    return forwarding(base)


def stand_in_for(base: Any, stored: StoredWeights, world: DistributedContext) -> None:
    """Let probes of a model on the meta device run on its first layers, before it is sharded."""
    bare = copy.deepcopy(base)
    set_stand_in(base, lambda: first_layers_read(bare, stored, world.device))


def shard(base: Any, world: DistributedContext) -> None:
    """Shard a model in place, layer by layer, with gradients reduced in float32."""
    mesh = init_device_mesh(world.device, (world.size,))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for layer in _layers(base):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(base, mesh=mesh, mp_policy=policy)


def fill(
    root: Any, base: Any, stored: StoredWeights, world: DistributedContext
) -> dict[int, Tensor]:
    """Read this process's shards of the weights that are still on the meta device.

    Args:
        root: the sharded module.
        base: the transformers model in it, by whose names the weights are stored.
        stored: files of the weights.
        world: processes that hold the shards.

    Returns:
        Identity of each new parameter -> its rows in the type of the file, on the CPU.
    """
    made: dict[int, torch.nn.Parameter] = {}
    read: dict[int, Tensor] = {}
    for name, parameter in base.named_parameters():
        if not isinstance(parameter, DTensor) or not parameter.is_meta:
            continue
        rows = stored.rows(plain_name(name), *bounds(len(parameter), world))
        made[id(parameter)] = torch.nn.Parameter(
            spread(rows.to(world.device, parameter.dtype, copy=True), parameter),
            parameter.requires_grad,
        )
        read[id(made[id(parameter)])] = rows
    exchange(root, made)
    root.to(world.device)  # FSDP2 takes over exchanged shards where a module is moved
    return read


def bounds(rows: int, world: DistributedContext) -> tuple[int, int]:
    """Return the first row of this process's shard, and the one after its last."""
    size = -(-rows // world.size)
    return min(world.rank * size, rows), min((world.rank + 1) * size, rows)


def own(tensor: Tensor) -> Tensor:
    """Return this process's shard, in the same memory."""
    assert isinstance(tensor, DTensor)
    return tensor._local_tensor.detach()


def cut(whole: Tensor, like: Tensor) -> Tensor:
    """Return the shard of a tensor that every process holds whole, placed as a parameter."""
    assert isinstance(like, DTensor)
    whole = whole.to(like.device)
    return own(distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None))


def spread(part: Tensor, like: Tensor) -> DTensor:
    """Return the tensor of which each process holds a part, placed as a parameter."""
    assert isinstance(like, DTensor)
    found: DTensor = DTensor.from_local(
        part.detach(),
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )
    return found


def forwarding(base: Any) -> Through:
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

    # FSDP2 finds its units at the first pass, which must not be a probe that leaves layers out.
    call(lambda: torch.empty(0))
    base.reshard()
    return call


@contextmanager
def in_step(
    through: Through, idle: Callable[[], Any], world: DistributedContext
) -> Iterator[Through]:
    """Yield a caller for forward passes of which each process makes as many as it needs.

    Weights are gathered by all processes at once, so before each pass they agree that one of them
    makes another. A process that leaves the block makes idle passes until all have left.

    Args:
        through: caller of forward passes of the sharded model.
        idle: a small forward pass.
        world: processes that hold the shards; each enters the block.
    """

    def call(make: Callable[[], Any]) -> Any:
        world.anywhere(True)
        return through(make)

    yield call
    with torch.no_grad():
        while world.anywhere(False):
            through(idle)


def _tensors(found: Any) -> list[Tensor]:
    """Return the tensors of a pass's output, on which FSDP2 sets its backward hooks."""
    if isinstance(found, Tensor):
        return [found]
    assert is_dataclass(found)
    values = [getattr(found, field.name) for field in fields(found)]
    return [value for value in values if isinstance(value, Tensor)]


def _layers(base: Any) -> list[Any]:
    """Return the decoder layers: the modules that transformers marks as not to be split."""
    model = base_of(base.model) if isinstance(base, ModelWithValueHead) else base
    names = set(getattr(model, "_no_split_modules", None) or ())
    found = [module for module in model.modules() if type(module).__name__ in names]
    if found:
        return found
    # Models with custom code mark nothing: their decoder layers are the longest list of modules.
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=()))
