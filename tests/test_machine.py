"""Memory and cores of this process under the limits of control groups."""

from __future__ import annotations

import gc
import sys
import weakref
from types import SimpleNamespace

import psutil
import pytest

from alignlab import machine

GB = 10**9


def write(root, files):
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A machine with 16 GB available and four cores, without limits."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(machine, "_share", None)
    available = SimpleNamespace(available=16 * GB)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: available)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(machine, "_limited", lambda: iter(()))
    return tmp_path


def test_without_limits_the_machine_counts(root):
    assert machine.free_memory() == 16 * GB
    assert machine.cores() == 4


def test_the_limit_of_a_container_counts_with_its_page_cache_as_free(root):
    """By hand, v2: 6 GB - 2 GB used + 0.5 GB of inactive cache; 1.5 cores are two threads."""
    write(root, {
        "proc/self/cgroup": "0::/some/path/on/the/host",
        "sys/fs/cgroup/memory.max": 6 * GB,
        "sys/fs/cgroup/memory.current": 2 * GB,
        "sys/fs/cgroup/memory.stat": f"anon 7\ninactive_file {GB // 2}",
        "sys/fs/cgroup/cpu.max": "150000 100000",
    })  # fmt: skip
    assert machine.free_memory() == 4.5 * GB
    assert machine.cores() == 2


def test_the_tightest_group_above_a_process_counts(root):
    """By hand, v1: the group has 5 GB left, its parent 3 GB; a quota of -1 is none."""
    own, parent = "sys/fs/cgroup/memory/a/b", "sys/fs/cgroup/memory/a"
    write(root, {
        "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a/b\n1:name=systemd:/",
        f"{own}/memory.limit_in_bytes": 6 * GB,
        f"{own}/memory.usage_in_bytes": GB,
        f"{parent}/memory.limit_in_bytes": 8 * GB,
        f"{parent}/memory.usage_in_bytes": 5 * GB,
        "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": -1,
        "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": 100_000,
    })  # fmt: skip
    assert machine.free_memory() == 3 * GB
    assert machine.cores() == 4


def test_no_limit_in_words_is_none(root):
    write(root, {
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/memory.max": "max",
        "sys/fs/cgroup/memory.current": GB,
        "sys/fs/cgroup/cpu.max": "max 100000",
    })  # fmt: skip
    assert machine.free_memory() == 16 * GB
    assert machine.cores() == 4


def test_processes_that_start_together_share_the_free_memory(root, monkeypatch):
    used = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=GB))
    monkeypatch.setattr(machine.psutil, "Process", lambda: used)
    machine.limit_share(5 * GB)
    assert machine.free_memory() == 4 * GB
    machine.limit_share(GB // 2)
    assert machine.free_memory() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and sets glibc")
def test_freed_memory_is_kept_within_the_context_and_returned_at_its_end():
    def used() -> int:
        return psutil.Process().memory_info().rss

    before = used()
    with machine.freed_memory_kept():
        with machine.freed_memory_kept():
            block = bytearray(200 << 20)
            block[:: 1 << 12] = b"1" * len(block[:: 1 << 12])
            del block
        assert used() - before > 150 << 20
    assert used() - before < 50 << 20
    block = bytearray(200 << 20)
    block[:: 1 << 12] = b"1" * len(block[:: 1 << 12])
    del block
    assert used() - before < 50 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and sets glibc")
def test_objects_are_frozen_within_the_context_alone(request):
    request.addfinalizer(gc.freeze)
    request.addfinalizer(gc.enable)
    gc.disable()
    gc.unfreeze()

    class Node:
        pass

    def cycle() -> weakref.ref:
        node = Node()
        node.itself = node
        return weakref.ref(node)

    before = cycle()
    with machine.gc_frozen():
        within = cycle()
        machine.give_back_memory()
        assert before() is not None
        assert within() is None
    machine.give_back_memory()
    assert before() is None

    before = cycle()
    gc.freeze()
    after = cycle()
    with machine.gc_frozen():
        machine.give_back_memory()
        assert after() is None
    machine.give_back_memory()
    assert before() is not None


def test_gaps_between_blocks_go_back_to_the_system_unless_memory_is_kept():
    def used() -> int:
        return psutil.Process().memory_info().rss

    with machine.freed_memory_kept():
        before = used()
        blocks = [bytearray(b"1" * (100 << 10)) for _ in range(2000)]
        pins = blocks[::20]
        del blocks
        machine.trim_heap()
        assert used() - before > 150 << 20
    machine.trim_heap()
    assert used() - before < 50 << 20
    assert len(pins) == 100
