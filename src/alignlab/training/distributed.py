"""Several processes at one step: which groups each of them takes, and how their parts are summed.

A step stays what it is in one process, sum(weight * loss) / sum(weight) over all its groups: sums
of losses, weights and gradients are added up over the processes before anything is divided. So
the number of processes changes nothing but rounding.

Every process holds all weights ("data"), or a share of each (fully sharded, "fsdp"). All of them
go through the same steps in the same order; only the leader, process 0, writes files.
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
"""Name -> sum of values, sum of their weights."""


@dataclass(frozen=True)
class DistributedContext:
    """The processes of one training; without arguments, this process alone."""

    rank: int = 0
    """Number of this process."""
    size: int = 1
    sharded: bool = False
    """True where each process keeps only its share of the weights (FSDP2)."""
    device: str = "cpu"
    """Device of the shares: "cpu" or "cuda"."""
    control: Any = None
    """Process group on the processors (gloo), for what is not a gradient."""

    @property
    def is_main(self) -> bool:
        """True for the main process, which writes files and logs."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        return self.size == 1

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """Call a function in the main process and return its value in all of them."""
        if self.is_single:
            return make()
        held: list[Any] = [make() if self.is_main else None]
        dist.broadcast_object_list(held, src=0, group=self.control)
        made: T = held[0]
        return made

    def all_gather(self, value: T) -> list[T]:
        """Every process's value, in order of processes."""
        if self.is_single:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found

    def wait(self) -> None:
        """Go on when every process is here."""
        self.all_gather(None)

    def parts(self, groups: Sequence[TokenGroup]) -> list[list[int]]:
        """Indices of the groups that each process takes: about as many tokens each.

        The largest group that is left goes to the process with the fewest tokens so far.
        """
        if self.is_single:
            return [list(range(len(groups)))]
        parts: list[list[int]] = [[] for _ in range(self.size)]
        tokens = [0] * self.size
        for i in sorted(range(len(groups)), key=lambda i: (-groups[i].tokens, i)):
            least = tokens.index(min(tokens))
            parts[least].append(i)
            tokens[least] += groups[i].tokens
        return [sorted(part) for part in parts]

    def all_reduce_sums(self, sums: Sums) -> dict[str, list[float]]:
        """Sums of all processes, added up in order of processes; keys may differ."""
        total: dict[str, list[float]] = {}
        for part in self.all_gather(dict(sums)):
            for name, values in part.items():
                into = total.setdefault(name, [0.0] * len(values))
                for k, value in enumerate(values):
                    into[k] += value
        return total

    def all_reduce_gradients(self, weights: Sequence[Tensor]) -> None:
        """Replace every weight's gradient by its sum over the processes.

        A weight without a gradient in some processes counts as zero there; one that has none
        anywhere keeps none.
        """
        if self.is_single or self.sharded:  # FSDP2 has added shards up in the backward pass
            return
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
        """Euclidean norm of the gradient whose parts (or copies) the processes hold."""
        own = float(torch.nn.utils.get_total_norm(gradients))
        if not self.sharded:
            return own
        return float(sum(norm**2 for norm in self.all_gather(own)) ** 0.5)


SINGLE_PROCESS = DistributedContext()
"""A single process."""
