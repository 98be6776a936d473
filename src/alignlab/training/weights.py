"""Choose whole or sharded weights for the training of a model."""

from __future__ import annotations

from typing import Any

from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext
from alignlab.training.precision import Weights


def in_training(model: Any, dtype: str, world: DistributedContext = SINGLE_PROCESS) -> Weights:
    """Return the weights of a model in training, sharded where the processes shard them."""
    if not world.sharded:
        return Weights(model, dtype)
    # Importing FSDP2 takes a second, which other trainings need not pay.
    from alignlab.training.sharding import ShardedWeights

    return ShardedWeights(model, dtype, world)
