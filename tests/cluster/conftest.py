"""Machines for the plans of clusters."""

from __future__ import annotations

import pytest

from alignlab.cluster.placement import Node


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `check` plan for this machine as if it had eight CPUs and 16 GB."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    node = Node("this machine", 8, 0, 16 * 10**9)
    monkeypatch.setattr("alignlab.commands._support.placed.this_node", lambda: node)
