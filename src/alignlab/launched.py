"""Detect a launch of several processes by torchrun or accelerate."""

from __future__ import annotations

import os

NO_DEEPSPEED = "DeepSpeed is not run here; parallel=fsdp (FSDP2) shares weights out as ZeRO-3 does"
"""Message of a refused DeepSpeed configuration."""


def world_size() -> int:
    """Return the number of processes of the launch; 1 without one."""
    known = all(os.environ.get(name) for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
    return int(os.environ.get("WORLD_SIZE", "1")) if known else 1


def local_world_size() -> int:
    """Return the number of processes of the launch on this machine; 1 without a launch."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_launched() else 1


def is_launched() -> bool:
    """Return true if the launch has several processes."""
    return world_size() > 1


def is_worker_rank() -> bool:
    """Return true on every rank of a launch but the main one (rank 0)."""
    return is_launched() and os.environ["RANK"] != "0"
