"""Machines for the plans of clusters, and a run for tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from alignlab import progress
from alignlab.cluster.placement import Node
from alignlab.runs import Run, RunIdentity


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run whose tasks show no progress."""
    run = Run.start(tmp_path / "run", RunIdentity("toy", {}, (0,)))
    progress.use(progress.Silent())
    yield run
    progress.use(None)
    run.close()


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `check` plan for this machine as if it had eight CPUs and 16 GB."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    node = Node("this machine", 8, 0, 16 * 10**9)
    monkeypatch.setattr("alignlab.commands._support.placed.this_node", lambda: node)
