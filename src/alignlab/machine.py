"""Read the memory and processor cores that this process may use.

Containers limit both by control groups (cgroup v1 and v2), which the totals of the machine do not
show, and the kernel kills a process that exceeds its memory without an exception.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from alignlab.launched import local_world_size

ROOT = Path("/")
"""Root of the file system with `proc` and `sys`."""

RESERVED = 0.1
"""Share of the free memory left to the allocator's fragments and to other processes."""

_share: int | None = None
_keeping = 0


def limit_share(share: int | None) -> None:
    """Limit this process to a number of bytes of memory; None sets no limit.

    Processes that start together would otherwise each plan with all the free memory.
    """
    global _share
    _share = share


def free_memory() -> int:
    """Return the bytes that this process can still allocate before the kernel kills one.

    The least of the machine's available memory, the rest of every control group above this
    process, the limits of `ulimit`, and this process's share among its siblings.
    """
    left: list[int] = [
        psutil.virtual_memory().available // local_world_size(),
        *_in_groups(),
        *_limited(),
    ]
    if _share is not None:
        left.append(_share - psutil.Process().memory_info().rss)
    return max(0, min(left))


def plannable_memory() -> int:
    """Return the part of the free memory that a plan may use."""
    return int(free_memory() * (1 - RESERVED))


def give_back_memory() -> None:
    """Return freed memory to the system, which glibc keeps for later allocations.

    Other processes, and the plan of their memory, see it as free again.
    """
    gc.collect()
    _trim()


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Freeze the objects that exist now: garbage collections within the context leave them out.

    Hundreds of thousands belong to imported modules, and a full collection walks them all (0.3 s).
    Within another such context, or where objects are frozen already, nothing changes.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def trim_heap() -> None:
    """Return free memory inside the heap to the system, unless it is kept (`freed_memory_kept`).

    After a batch, copies of weights and caches of keys and values leave gaps that those of the next
    one do not fit: untrimmed, the memory of a process that samples grows with every batch.
    """
    if not _keeping:
        _trim()


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let glibc keep the memory that is freed within the context, and return it at the end.

    By default glibc maps every large tensor anew and unmaps it when it is freed, so that each step
    waits for the kernel to clear the same pages again.
    """
    global _keeping
    _keeping += 1
    if _keeping == 1:
        _mallopt(mmap_max=0, trim_threshold=-1)
    try:
        yield
    finally:
        _keeping -= 1
        if not _keeping:
            _mallopt(mmap_max=65536, trim_threshold=128 << 10)
            _trim()


def _trim() -> None:
    with suppress(OSError, AttributeError):  # other C libraries have no such call
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _mallopt(*, mmap_max: int, trim_threshold: int) -> None:
    """Set the most blocks that glibc maps by themselves, and the free bytes that it keeps."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, mmap_max)  # M_MMAP_MAX of malloc.h
        libc.mallopt(-1, trim_threshold)  # M_TRIM_THRESHOLD; -1 is the largest size


def cores() -> int:
    """Return the number of cores that this process may use: affinity and the group's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([allowed or 1, *(math.ceil(quota) for quota in _quotas())]))


def processor() -> str:
    """Return the processor's model name, or its architecture where the system names none."""
    for line in (_text(ROOT / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return os.uname().machine


def file_mapped(addresses: Sequence[int]) -> list[bool]:
    """Return for each address of memory whether it is mapped from a file of weights.

    Weights stored in the type in use are not copied when they are loaded; a process that changes
    them gets a copy of each page.
    """
    ranges = []
    for line in (_text(ROOT / "proc/self/maps") or "").splitlines():
        if line.endswith(".safetensors"):
            first, last = line.split(maxsplit=1)[0].split("-")
            ranges.append((int(first, 16), int(last, 16)))
    return [any(first <= a < last for first, last in ranges) for a in addresses]


def _in_groups() -> Iterator[int]:
    """Yield the bytes left in each control group with a limit, its page cache counted as free."""
    for folder in _groups("memory"):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None:
                stat = dict(
                    line.split(maxsplit=1)
                    for line in (_text(folder / "memory.stat") or "").splitlines()
                )
                yield int(most) - int(now) + int(stat.get(cache, 0))


def _limited() -> Iterator[int]:
    """Yield the bytes left of the limits on address space and data."""
    info = psutil.Process().memory_info()
    for kind, used in ((resource.RLIMIT_AS, info.vms), (resource.RLIMIT_DATA, info.rss)):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft - used


def _quotas() -> Iterator[float]:
    """Yield the quota of each control group, in cores."""
    for folder in _groups("cpu"):
        given = (_text(folder / "cpu.max") or "").split()
        if len(given) == 2 and given[0] != "max":
            yield int(given[0]) / int(given[1])
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota and period and quota > 0:
            yield quota / period


def _groups(controller: str) -> list[Path]:
    """Return the folders of this process's control groups, v1 and v2, up to the root.

    A container sees its own group as the root and may be shown the path on its host, which does
    not exist inside.
    """
    found: dict[Path, None] = {}
    for line in (_text(ROOT / "proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        mount_names = (controller,) if names else ("", "unified")
        for mount in (ROOT / "sys/fs/cgroup" / name for name in mount_names):
            own = mount / path.lstrip("/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(mount) and folder.is_dir():
                    found[folder] = None
    return list(found)


def _number(file: Path) -> int | None:
    """Read an integer; None where the file is absent or sets no limit."""
    text = (_text(file) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return None
