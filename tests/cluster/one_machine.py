"""A Ray of this machine alone, as large as a test says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from alignlab.cluster import session as sessions
from alignlab.cluster.placement import Node
from alignlab.cluster.session import Session, connected


@contextmanager
def ray_here(cpus: int) -> Iterator[Session]:
    """Start Ray with so many CPUs, and 2 GB of memory for each."""
    with pytest.MonkeyPatch.context() as patch:
        node = Node("here", cpus, 0, cpus * 2 * 10**9)
        patch.setattr(sessions, "this_node", lambda: node)
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else they starve on a busy machine
        with connected("auto") as found:
            yield found
