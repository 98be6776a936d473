"""Choose the weights in training of a model: whole, or sharded where processes share them."""

from __future__ import annotations

from typing import Any

from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext
from alignlab.training.precision import Weights


def in_training(model: Any, dtype: str, world: DistributedContext = SINGLE_PROCESS) -> Weights:
    """Return the weights in training of a model, sharded ones where the processes share them."""
    if not world.sharded:
        return Weights(model, dtype)
    # FSDP2 is imported where it is used: it takes a second.
    from alignlab.training.sharding import ShardedWeights

    return ShardedWeights(model, dtype, world)
