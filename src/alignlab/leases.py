"""Hold a run directory across machines by a lease, where file locks do not reach.

A file lock ends with its process, but on many shared file systems other machines do not see it. The
lease is a file that names its holder (host, boot of its kernel, process); the holder renews its
time every ten seconds, by the clock of the file system. Under one kernel the file lock decides, and
what a dead process left there is taken over at once. A lease of another machine is never taken over
without being asked: its silence may be that of the network.

A worker of a cluster acts under the lease of the command that sent it, and under a claim: a file
that names its attempt at a task. When the task is given to another worker the file changes, and the
first one, which may only have been cut off, writes nothing more.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from alignlab.errors import RunFailed
from alignlab.progress import duration

NAME = ".lease"
"""Name of the lease in a run directory."""
BEAT_S = 10.0
"""Seconds between two signs of life."""
STALE_S = 120.0
"""Seconds of silence after which a holder may be dead; caches of a network file system hold times
for up to 60."""


_claim: tuple[Path, str] | None = None
"""File and text under which this process may write, in a worker of a cluster."""


def act_under(claim: Path | None, text: str = "") -> None:
    """Let this process write only as long as a file holds a text; None ends it."""
    global _claim
    _claim = None if claim is None else (claim, text)


def is_claimed() -> bool:
    """Return whether this process does a task of a cluster, whose others may be other machines."""
    return _claim is not None


def this_host() -> tuple[str, str]:
    """Return this machine's name and the id of its kernel's boot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = str(int(psutil.boot_time()))
    return socket.gethostname(), boot


class Lease:
    """A run directory held by this process; use `take`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        host, boot = this_host()
        holder = {"host": host, "boot": boot, "pid": os.getpid(), "lease": uuid.uuid4().hex}
        self._text = json.dumps(holder) + "\n"
        self._done = threading.Event()

    @classmethod
    def take(cls, run: Path) -> Lease:
        """Take the lease of a run directory whose file lock this process holds.

        Raises:
            RunFailed: a process on another machine holds it, or held it when it was last seen.
        """
        lease = cls(run / NAME)
        if not lease._create():
            refuse(run)
            _discard(lease.path)
            if not lease._create():
                raise RunFailed(f"{run}: another process has just taken this run")
        weakref.finalize(lease, _release, lease.path, lease._text, lease._done, os.getpid())
        args = (lease.path, lease._text, lease._done)
        threading.Thread(target=_beat, args=args, name="lease", daemon=True).start()
        return lease

    @property
    def id(self) -> str:
        """Return the name of this hold, which no other has."""
        return str(json.loads(self._text)["lease"])

    def check(self) -> None:
        """Check that the run is still this process's.

        Raises:
            RunFailed: its lease was removed or taken by another process.
        """
        if not _is(self.path, self._text):
            found = holder(self.path)
            by = f"process {found['pid']} on {found['host']}" if found else "somebody"
            raise RunFailed(f"{self.path.parent}: {by} took over this run; nothing more is written")
        if _claim is not None and not _is(*_claim):
            raise RunFailed(f"{_claim[0]}: another worker took over; nothing more is written")

    def is_lost(self) -> bool:
        """Return whether the run, or the task of this process, was taken over."""
        return not _is(self.path, self._text) or (_claim is not None and not _is(*_claim))

    def release(self) -> None:
        """Remove the lease, if it is still this process's."""
        _release(self.path, self._text, self._done, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what renews and ends the lease: a worker process only checks it."""
        return {"path": self.path, "_text": self._text}

    def _create(self) -> bool:
        """Write the lease where there is none; return whether it was written."""
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(self._text)
            file.flush()
            os.fsync(handle)
        return True


def holder(path: Path) -> dict[str, Any] | None:
    """Read who holds a lease: host, boot and pid; None where there is no lease."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    unknown = {"host": "an unknown host", "boot": "", "pid": "?"}
    with suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return {**unknown, **found}
    return unknown  # its holder died while it wrote


def refuse(run: Path) -> None:
    """Refuse a run that a process on another machine holds.

    Raises:
        RunFailed: such a process, with its last sign of life, and how to take the run over.
    """
    path = run / NAME
    found, (host, boot) = holder(path), this_host()
    if found is None or found["boot"] == boot:
        return
    silent = _silence(path)
    if silent is None:
        return
    who, ago = f"process {found['pid']} on {found['host']}", duration(silent)
    if silent < STALE_S:
        raise RunFailed(f"{run}: {who} is working on this run (last sign of life {ago} ago)")
    if found["host"] == host:
        return  # this machine was started again
    raise RunFailed(
        f"{run}: {who} held this run, its last sign of life was {ago} ago; if it is dead, remove "
        f"{path} to take the run over"
    )


def _silence(path: Path) -> float | None:
    """Return the seconds since a lease's last sign of life, by the file system's clock."""
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        probe.touch()
        # Opened, as a network file system may answer from its cache otherwise.
        with path.open("rb") as file:
            return max(0.0, probe.stat().st_mtime - os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def _discard(path: Path) -> None:
    """Remove a dead holder's lease; of several processes one succeeds."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        os.rename(path, aside)
        aside.unlink()


def _is(path: Path, text: str) -> bool:
    """Return whether a lease has this text; an unreachable file system counts as yes."""
    try:
        return path.read_text(encoding="utf-8") == text
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _beat(path: Path, text: str, done: threading.Event) -> None:
    """Renew a lease until it is released or lost."""
    while not done.wait(BEAT_S) and _is(path, text):
        with suppress(OSError):
            os.utime(path)  # without a time: the file server's clock


def _release(path: Path, text: str, done: threading.Event, pid: int) -> None:
    done.set()
    # A forked worker ends without its parent's run.
    if os.getpid() == pid and _is(path, text):
        with suppress(OSError):
            path.unlink()
