"""Whether this process is one of several that torchrun or accelerate started."""

from __future__ import annotations

import os

NO_DEEPSPEED = "DeepSpeed is not run here; parallel=fsdp (FSDP2) shares weights out as ZeRO-3 does"
"""Message of a refused DeepSpeed configuration."""


def world_size() -> int:
    """Processes of this launch; 1 where there is none."""
    known = all(os.environ.get(name) for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
    return int(os.environ.get("WORLD_SIZE", "1")) if known else 1


def local_world_size() -> int:
    """Those of them on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_launched() else 1


def is_launched() -> bool:
    """Whether there are several."""
    return world_size() > 1


def is_worker_rank() -> bool:
    """Whether this process is one of those that help the first, and stay silent."""
    return is_launched() and os.environ["RANK"] != "0"
