"""Apply the environment variables of `accelerate launch`.

Processes, machines and FSDP of accelerate's configuration are applied. Options that alignlab has
settings for (precision, checkpointed layers) must agree with these; other options are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from alignlab.errors import BadInput
from alignlab.launched import NO_DEEPSPEED, is_launched
from alignlab.training.config import TrainConfig

Parallel = Literal["auto", "data", "fsdp"]
"""Parallelism of a training: each process holds all weights, or its shards of them (FSDP2)."""


def sharded(parallel: Parallel, environment: Mapping[str, str] = os.environ) -> bool:
    """Return True where the processes of this launch shard the weights.

    Raises:
        BadInput: `parallel` is set in a launch of one process.
    """
    if not is_launched():
        if parallel != "auto":
            raise BadInput(
                f"setting parallel: {parallel} has no effect in one process; start with torchrun "
                "or accelerate launch (see docs/distributed.md)"
            )
        return False
    asked = parallel
    if parallel == "auto":
        asked = "fsdp" if _on(environment, "ACCELERATE_USE_FSDP") else "data"
    return asked == "fsdp"


def refuse_unmet(config: TrainConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse options of accelerate's configuration that a training does not meet.

    Raises:
        BadInput: DeepSpeed, offloading, or precision or checkpointed layers unlike the settings.
    """
    if _on(environment, "ACCELERATE_USE_DEEPSPEED"):
        raise BadInput(f"accelerate: use_deepspeed: {NO_DEEPSPEED}")
    if not is_launched():
        return
    asked = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked == "bf16" and config.dtype != "bfloat16":
        raise BadInput("accelerate: mixed_precision bf16: expected dtype=bfloat16 with it")
    if asked not in ("no", "bf16"):
        raise BadInput(f"accelerate: mixed_precision: expected no or bf16, found {asked}")
    if not _on(environment, "ACCELERATE_USE_FSDP"):
        return
    if _on(environment, "FSDP_OFFLOAD_PARAMS"):
        raise BadInput("accelerate: fsdp_offload_params: weights cannot be kept off the GPU here")
    if _on(environment, "FSDP_ACTIVATION_CHECKPOINTING") and not config.gradient_checkpointing:
        raise BadInput(
            "accelerate: fsdp_activation_checkpointing: expected gradient_checkpointing=true with "
            "it"
        )


def _on(environment: Mapping[str, str], name: str) -> bool:
    """Return True for a variable that is set to a true value."""
    return environment.get(name, "").lower() in ("true", "1", "yes")
