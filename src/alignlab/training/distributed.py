"""Share a step among processes: assign groups to ranks, and reduce sums and gradients.

A step minimises sum(weight * loss) / sum(weight) over all its groups, on any number of processes:
sums of losses, weights and gradients are reduced before the division. The number of processes thus
changes nothing but rounding.

Every process holds all weights ("data"), or a shard of each ("fsdp"). All of them run the same
steps in the same order; only the main rank, process 0, writes files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from alignlab.models.packed import TokenGroup

T = TypeVar("T")

Sums = Mapping[str, Sequence[float]]
"""Name -> sum of values and sum of their weights."""


@dataclass(frozen=True)
class DistributedContext:
    """Processes of a training; by default a single process."""

    rank: int = 0
    """Index of this process."""
    size: int = 1
    """Number of processes."""
    sharded: bool = False
    """True where each process holds only its shards of the weights (FSDP2)."""
    device: str = "cpu"
    """Device of the shards: "cpu" or "cuda"."""
    control: Any = None
    """Process group on CPUs (gloo), for objects other than gradients."""

    @property
    def is_main(self) -> bool:
        """Return True on the main rank, which writes files and logs."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Return True where no other process takes part."""
        return self.size == 1

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """Call a function on the main rank and return its value on every rank."""
        if self.is_single:
            return make()
        held: list[Any] = [make() if self.is_main else None]
        dist.broadcast_object_list(held, src=0, group=self.control)
        made: T = held[0]
        return made

    def all_gather(self, value: T) -> list[T]:
        """Return every process's value, in order of ranks."""
        if self.is_single:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found

    def anywhere(self, flag: bool) -> bool:
        """Return True on every process where the flag is True on one."""
        if self.is_single:
            return flag
        found = torch.tensor([int(flag)])
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.control)
        return bool(found)

    def wait(self) -> None:
        """Wait until every process calls this (a barrier)."""
        self.all_gather(None)

    def parts(self, groups: Sequence[TokenGroup]) -> list[list[int]]:
        """Assign groups to processes with about as many tokens each; return their indices.

        The largest remaining group goes to the process with the fewest tokens so far.
        """
        if self.is_single:
            return [list(range(len(groups)))]
        parts: list[list[int]] = [[] for _ in range(self.size)]
        tokens = [0] * self.size
        for i in sorted(range(len(groups)), key=lambda i: (-groups[i].tokens, i)):
            # Ties go to the lowest rank: every process must compute the same assignment.
            least = tokens.index(min(tokens))
            parts[least].append(i)
            tokens[least] += groups[i].tokens
        return [sorted(part) for part in parts]

    def all_reduce_sums(self, sums: Sums) -> dict[str, list[float]]:
        """Reduce sums over all processes, in order of ranks; keys may differ."""
        total: dict[str, list[float]] = {}
        # Added in a fixed order in float64, unlike all_reduce: metrics are the same in every run.
        for part in self.all_gather(dict(sums)):
            for name, values in part.items():
                into = total.setdefault(name, [0.0] * len(values))
                for k, value in enumerate(values):
                    into[k] += value
        return total

    def all_reduce_gradients(self, weights: Sequence[Tensor]) -> None:
        """Replace every weight's gradient by its sum over the processes.

        A weight without a gradient in some processes counts as zero there; a weight without one in
        all of them gets none.
        """
        if self.is_single or self.sharded:  # FSDP2 reduces shards in the backward pass
            return
        # A collective call per gradient must be made by every process or by none.
        here = [weight.grad is not None for weight in weights]
        somewhere = [any(found) for found in zip(*self.all_gather(here), strict=True)]
        pending = []
        for weight, found in zip(weights, somewhere, strict=True):
            if found:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
                pending.append(dist.all_reduce(weight.grad, async_op=True))
        for work in pending:
            work.wait()

    def norm(self, gradients: Sequence[Tensor]) -> float:
        """Return the Euclidean norm of a gradient, held whole or in shards by the processes."""
        own = float(torch.nn.utils.get_total_norm(gradients))
        if not self.sharded:
            return own
        return float(sum(norm**2 for norm in self.all_gather(own)) ** 0.5)


SINGLE_PROCESS = DistributedContext()
"""Context of a training in a single process."""
