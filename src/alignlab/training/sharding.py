"""Train weights of which each process holds shards (FSDP2, `shards.py`).

The model holds shards in the compute type; masters and optimiser states are float32 values of the
same shards, as ordinary tensors, so that any optimiser applies. Responses are sampled from the
shards; a whole model exists on the main rank only while a result is saved.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from alignlab.models.adapters import base_of
from alignlab.models.deferred import StoredWeights, exchange, plain_name
from alignlab.models.load import LanguageModel
from alignlab.models.values import ModelWithValueHead
from alignlab.training.distributed import DistributedContext
from alignlab.training.precision import Weights
from alignlab.training.shards import (
    cut,
    fill,
    forwarding,
    in_step,
    own,
    shard,
    spread,
    stand_in_for,
)


class ShardedWeights(Weights):
    """Weights in training of which each process holds shards; methods are collective.

    Args:
        model: the same model in every process: whole on the CPU, whose layers move to this
            process's device one by one and become shards; or on the meta device.
        dtype: "float32" or "bfloat16".
        world: processes that hold the shards.
        stored: files of the weights on the meta device, of which each process reads its shards.
    """

    def __init__(
        self,
        model: Any,
        dtype: str,
        world: DistributedContext,
        stored: StoredWeights | None = None,
    ) -> None:
        self._world, self._stored = world, stored
        # A result is saved from this copy; on the meta device it takes no memory.
        self._copy = copy.deepcopy(model) if world.is_main else None
        super().__init__(model, dtype)
        whole = self.masters
        self._frozen = []
        self._base = base_of(model)
        inner = base_of(model.model) if isinstance(model, ModelWithValueHead) else self._base
        if stored is not None:
            stand_in_for(inner, stored, world)
        shard(self._base, world)
        read = fill(self._base, inner, stored, world) if stored else {}
        trained = dict(model.named_parameters())
        self._used = [trained[name] for name in self.names]
        self.masters = [
            self._master(parameter, before, read.get(id(parameter)))
            for parameter, before in zip(self._used, whole, strict=True)
        ]
        self.through = forwarding(self._base)

    def _master(self, parameter: Tensor, whole: Tensor, rows: Tensor | None) -> Tensor:
        """Return this process's float32 shard of a trained parameter.

        Args:
            parameter: the sharded parameter, whose memory float32 masters share.
            whole: its values before it was cut; on the meta device without rows of a file.
            rows: its shard as read from a file.
        """
        if self._shared:
            return own(parameter)
        if rows is not None:
            return rows.to(self._world.device, torch.float32)
        return cut(whole.detach(), parameter)

    def collect_gradients(self) -> None:
        """Add the shards' gradients to the masters', as sums over processes."""
        for parameter, master in zip(self._used, self.masters, strict=True):
            if parameter.grad is None:
                continue
            # FSDP2 averages gradients; a step divides by the total weight of all processes itself.
            found = own(parameter.grad).float() * self._world.size
            master.grad = found if master.grad is None else master.grad.add_(found)
            parameter.grad = None

    def refresh(self) -> None:
        """Copy the masters' values to the model's shards."""
        # After a pass without gradient FSDP2 keeps the outermost unit gathered, which is now stale.
        self._base.reshard()
        if not self._shared:
            with torch.no_grad():
                for parameter, master in zip(self._used, self.masters, strict=True):
                    own(parameter).copy_(master)

    def part(self, index: int, whole: Tensor) -> Tensor:
        """Return this process's shard of a tensor of the shape of a trained parameter."""
        return cut(whole, self._used[index])

    def placed(self, index: int, part: Tensor) -> Tensor:
        """Return a shard as a part of the whole tensor, which no process holds."""
        return spread(part, self._used[index])

    def whole(self, index: int, part: Tensor) -> Tensor | None:
        """Gather a tensor from the shards of all processes; None on worker ranks."""
        # Collective: every process must call it, in the same order, though only one needs it.
        full = spread(part, self._used[index]).full_tensor()
        return full.cpu() if self._world.is_main else None

    @contextmanager
    def sampling(self, lm: LanguageModel) -> Iterator[LanguageModel]:
        """Yield the sharded model for sampling; each process may draw another number of tokens."""
        device = self.masters[0].device
        token_11 = torch.zeros((1, 1), dtype=torch.long, device=device)

        def idle() -> Tensor:
            logits: Tensor = lm.model(input_ids=token_11, use_cache=False).logits
            return logits

        with in_step(self.through, idle, self._world) as through:
            yield replace(lm, device=device, through=through)

    def model(self, lm: LanguageModel, values: Mapping[str, Tensor]) -> LanguageModel:
        """Return a whole model on the main rank's CPU, with the given weights; else `lm`."""
        if self._copy is None:
            return lm
        whole = self._copy if self._stored is None else copy.deepcopy(self._copy)
        inner = whole.model if isinstance(whole, ModelWithValueHead) else whole
        made: dict[int, torch.nn.Parameter] = {}
        for name, parameter in whole.named_parameters():
            if name in values:
                made[id(parameter)] = torch.nn.Parameter(values[name], parameter.requires_grad)
        for name, parameter in base_of(inner).named_parameters():
            if parameter.is_meta and id(parameter) not in made:  # under an adapter
                assert self._stored is not None
                rows = self._stored.rows(plain_name(name)).to(parameter.dtype)
                made[id(parameter)] = torch.nn.Parameter(rows, parameter.requires_grad)
        exchange(whole, made)
        return replace(lm, model=inner, device=torch.device("cpu"), weights=None)

    def restore(self) -> None:
        """Do nothing: the trained model is the whole copy that `model` returns."""
