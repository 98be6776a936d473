"""Run a command on the main rank of a distributed launch, and trainings on all ranks.

The main rank (process 0) alone runs the command: it reads data, writes the run directory, samples,
measures and logs. Worker ranks wait for trainings, take part in them, and end with the command.
Only training code is distributed.

Ranks are the processes of a launch (torchrun, accelerate), or those of a task of a cluster, which
has no launcher (`take_part`, `is_own`, `part`).

An error on any rank ends all processes and is reported once. A thread of each process polls for
errors of other ranks twice a second, since a process in a collective call would not notice them.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NoReturn, ParamSpec, TypeVar

from alignlab.errors import BadInput, RunFailed
from alignlab.launched import is_launched
from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""Timeout of collective calls: the main rank may sample for days; dead ranks are detected."""

GRACE_S = 10
"""Seconds that a worker rank waits after an error, for the main rank to report it."""
BOTH_S = 2
"""Seconds before a worker rank reports an error: the main rank is first if it occurs on both."""


@dataclass
class _Team:
    """State of this process's group of ranks."""

    world: DistributedContext
    watch: _Watch
    leading: bool = False
    """True while the main rank runs a command: trainings may be distributed."""
    ended: bool = True
    """True where the last command ended on all ranks."""


_team: _Team | None = None


def main_process_only(command: Callable[P, T]) -> Callable[P, T]:
    """Decorate a command to run on the main rank while worker ranks serve its trainings.

    On worker ranks the command returns the main rank's result, or raises its error.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if not is_launched() or (_team is not None and _team.leading):
            return command(*args, **kwargs)
        team = _join()
        team.ended = False
        if not team.world.is_main:
            served: T = _serve(team)
            return served
        team.leading = True
        try:
            result = command(*args, **kwargs)
        except Exception as error:
            # After an error of a worker rank no process waits for a broadcast.
            if not team.watch.failed:
                sent = _sendable(error)
                team.world.broadcast_from_main(lambda: ("raise", sent))
                team.ended = True
            raise
        finally:
            team.leading = False
        team.world.broadcast_from_main(lambda: ("return", result))
        team.ended = True
        return result

    return run


def take_part() -> None:
    """Serve the trainings of the main rank's next command, where no launcher ends the ranks.

    Raises:
        Exception: an error of this rank, or of its group; those of the main rank are its own.
    """
    team = _join()
    team.ended = False
    try:
        _serve(team, exits=False)
    except Exception:
        if not team.ended:
            raise


def is_own(error: Exception) -> bool:
    """Report an error to the other ranks; return False where its cause is another process.

    That is a rank that does not answer, or one that failed before.
    """
    team = _team
    return team is not None and (team.ended or team.watch.is_first(error))


def part() -> None:
    """Leave the group of ranks when its command has ended; this process can then join another."""
    global _team
    if _team is None:
        return
    from accelerate import PartialState

    atexit.unregister(_part)
    _part(_team)
    PartialState._reset_state()
    _team = None


def run_on_all_ranks(
    function: Callable[..., T],
    *arguments: Any,
    sharded: bool,
    device: str,
    here: Mapping[str, Any],
) -> T:
    """Call a function on all ranks and return its result on the main rank.

    Args:
        function: importable function whose first argument is the `DistributedContext`.
        arguments: positional arguments, sent to the worker ranks.
        sharded: True where the ranks shard the weights, False where each holds all of them.
        device: "cpu" or "cuda".
        here: keyword arguments passed only on the main rank.

    Raises:
        RunFailed: a worker rank failed.
    """
    team = _team
    if team is None or not team.leading:
        return function(replace(SINGLE_PROCESS, device=device), *arguments, **here)
    world = replace(team.world, sharded=sharded, device=device)
    world.broadcast_from_main(lambda: ("do", (function, arguments, sharded, device)))
    try:
        return function(world, *arguments, **here)
    except Exception as error:
        # A collective call fails here too when a worker dies: report the cause, not the symptom.
        if other := team.watch.error():
            team.watch.failed = True
            raise RunFailed(other) from None
        team.watch.report(error)
        raise
    except KeyboardInterrupt as error:
        team.watch.report(error)
        raise


def _serve(team: _Team, *, exits: bool = True) -> Any:
    """Take part in the main rank's trainings until its command ends; return its result.

    Args:
        exits: end this process on an error of a training, as a launcher then ends all; False
            raises it.
    """
    nothing: tuple[str, Any] = ("", None)
    while True:
        what, content = team.world.broadcast_from_main(lambda: nothing)
        team.ended = what != "do"
        if what == "return":
            return content
        if what == "raise":
            raise content
        function, arguments, sharded, device = content
        try:
            function(replace(team.world, sharded=sharded, device=device), *arguments)
        except BaseException as error:
            if not exits:
                time.sleep(BOTH_S)
                raise
            team.watch.leave(error)


def _join() -> _Team:
    """Join the process group, once per process."""
    global _team
    if _team is not None:
        return _team
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    # accelerate would start DeepSpeed before the command can refuse it in one line.
    deepspeed = os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    on_gpus = torch.cuda.is_available()
    # Objects (batches, metrics, errors) are sent over gloo: nccl transfers GPU tensors alone.
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    PartialState(cpu=not on_gpus, backend=backend, timeout=PATIENCE)
    if deepspeed:
        os.environ["ACCELERATE_USE_DEEPSPEED"] = deepspeed
    # A separate group for messages: they never mix with gradient collectives under way.
    control = dist.new_group(backend="gloo", timeout=PATIENCE)
    world = DistributedContext(dist.get_rank(), dist.get_world_size(), control=control)
    _team = _Team(world, _Watch(world))
    atexit.register(_part, _team)
    return _team


def _part(team: _Team) -> None:
    """Close the process group at the end of a process that did not fail."""
    import torch.distributed as dist

    # After an error the others are gone: waiting for them would hang the exit.
    if team.ended:
        team.watch.stopped.set()
        team.world.wait()
        dist.destroy_process_group()


class _Watch:
    """Report errors of this process to the others, and end it on an error of another."""

    def __init__(self, world: DistributedContext) -> None:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        self.world = world
        self.failed = False
        self.stopped = threading.Event()
        host, store = os.environ["MASTER_ADDR"], None
        if world.is_main:
            store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        # A store apart from the group's: it answers while collective calls are blocked.
        port = world.broadcast_from_main(lambda: store.port if store else 0)
        self._store = store or TCPStore(host, port, is_master=False)
        self._lock = threading.Lock()
        self._parent = os.getppid()
        threading.Thread(target=self._poll, daemon=True).start()

    def report(self, error: BaseException) -> None:
        """Report a failure of this process, unless another process failed before."""
        self.failed = True
        code = 2 if isinstance(error, BadInput) else 1
        with self._lock:
            if not self._store.check(["failed"]):
                message = str(_sendable(error))
                self._store.set("failed", json.dumps([self.world.rank, message, code]))

    def error(self) -> str | None:
        """Return the message of another process's error, if one failed."""
        with self._lock:
            if not self._store.check(["failed"]):
                return None
            rank, message, _ = json.loads(self._store.get("failed"))
        return None if rank == self.world.rank else f"process {rank}: {message}"

    def is_first(self, error: BaseException) -> bool:
        """Report an error; return True where it is the first, and all other ranks have seen it."""
        others = [f"seen {rank}" for rank in range(self.world.size) if rank != self.world.rank]
        deadline = time.monotonic() + GRACE_S
        try:
            self.report(error)
            second = self.error() is not None
            while time.monotonic() < deadline:
                with self._lock:
                    if not second and self._store.check(others):
                        return True
                time.sleep(0.1)
        except RuntimeError:  # the main rank, which holds the store, is gone
            pass
        return False

    def leave(self, error: BaseException) -> NoReturn:
        """End this worker rank on an error, which the main rank reports if it can."""
        self.failed = True
        if not isinstance(error, BadInput | RunFailed | KeyboardInterrupt):
            traceback.print_exception(error)
        time.sleep(BOTH_S)
        self.report(error)
        time.sleep(GRACE_S)  # until the main rank has reported; the launcher then ends all ranks
        os._exit(2 if isinstance(error, BadInput) else 1)

    def _poll(self) -> None:
        """Poll for errors of other processes, and end this one after one."""
        while not self.stopped.wait(0.5):
            try:
                with self._lock:
                    raw = self._store.get("failed") if self._store.check(["failed"]) else None
            except RuntimeError:  # the main rank, which holds the store, is gone
                raw = b"[0, 0, 1]"
            if os.getppid() != self._parent:
                os._exit(1)
            if raw is None:
                continue
            rank, message, code = json.loads(raw)
            if rank == self.world.rank:
                return
            with suppress(RuntimeError), self._lock:
                self._store.set(f"seen {self.world.rank}", "")
            # Time for this process to end by itself, and for the main rank to report.
            if self.stopped.wait(2 if self.world.is_main else GRACE_S):
                return
            if self.world.is_main:
                print(f"alignlab: process {rank}: {message}", file=sys.stderr, flush=True)
            os._exit(code)


def _sendable(error: BaseException) -> BadInput | RunFailed:
    """Return an error as a `BadInput` or `RunFailed`, which can be pickled."""
    if isinstance(error, BadInput | RunFailed):
        return error
    return RunFailed(f"{type(error).__name__}: {error}")
