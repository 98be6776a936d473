"""Processes that torchrun or accelerate started: one leads, the others help it train.

The leader (process 0) alone runs the command: it reads data, keeps the run directory, samples,
measures and speaks. The others wait for work, do their part of it, and end with the command. So
nothing but training needs to know that there are several.

An error anywhere ends all processes, and is told once. Each process looks every half second
whether another one has failed, since one that waits in a collective call would not see it.
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
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NoReturn, ParamSpec, TypeVar

from alignlab.errors import BadInput, RunFailed
from alignlab.launched import is_launched
from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""Longest wait for another process, which may be sampling or saving; a dead one is noticed."""

GRACE_S = 10
"""Seconds for which a worker process stays on after an error."""


@dataclass
class _Team:
    """State of this process's group."""

    world: DistributedContext
    watch: _Watch
    leading: bool = False
    """True while the main process runs a command: work may be shared."""
    ended: bool = True
    """True where the last command ended in all processes."""


_team: _Team | None = None


def main_process_only(command: Callable[P, T]) -> Callable[P, T]:
    """Make a command one that the leader runs, while the other processes serve it.

    In the others it returns what it returns in the leader, or raises what it raises there.
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
            # One that another process reported is reported already, and nobody waits for it.
            if not team.watch.failed:
                told = error if isinstance(error, BadInput | RunFailed) else _told(error)
                team.world.broadcast_from_main(lambda: ("raise", told))
                team.ended = True
            raise
        finally:
            team.leading = False
        team.world.broadcast_from_main(lambda: ("return", result))
        team.ended = True
        return result

    return run


def run_on_all_ranks(
    function: Callable[..., T],
    *arguments: Any,
    sharded: bool,
    device: str,
    here: Mapping[str, Any],
) -> T:
    """Call a function in all processes: what it gives here.

    Args:
        function: importable; its first argument is the world.
        arguments: the same everywhere; they are sent to the other processes.
        sharded: whether the processes share the weights out, or each holds all of them.
        device: "cpu" or "cuda".
        here: further arguments, by name, that only this process is given.

    Raises:
        RunFailed: another process failed.
    """
    team = _team
    if team is None or not team.leading:
        return function(replace(SINGLE_PROCESS, device=device), *arguments, **here)
    world = replace(team.world, sharded=sharded, device=device)
    world.broadcast_from_main(lambda: ("do", (function, arguments, sharded, device)))
    try:
        return function(world, *arguments, **here)
    except Exception as error:
        if other := team.watch.error():
            team.watch.failed = True
            raise RunFailed(other) from None
        team.watch.tell(error)
        raise
    except KeyboardInterrupt as error:
        team.watch.tell(error)
        raise


def _serve(team: _Team) -> Any:
    """Do work as the leader sends it, until its command ends."""
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
            team.watch.leave(error)


def _join() -> _Team:
    """Meet the other processes, once."""
    global _team
    if _team is not None:
        return _team
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    # accelerate would start DeepSpeed before the command can refuse it in one line.
    asked = os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    on_gpus = torch.cuda.is_available()
    # Objects (batches, metrics, errors) travel over gloo: nccl carries tensors of a GPU alone.
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    PartialState(cpu=not on_gpus, backend=backend, timeout=PATIENCE)
    if asked:
        os.environ["ACCELERATE_USE_DEEPSPEED"] = asked
    control = dist.new_group(backend="gloo", timeout=PATIENCE)
    world = DistributedContext(dist.get_rank(), dist.get_world_size(), control=control)
    _team = _Team(world, _Watch(world))
    atexit.register(_part, _team)
    return _team


def _part(team: _Team) -> None:
    """At the end of a process that did not fail, wait for the others and close the group."""
    import torch.distributed as dist

    if team.ended:
        team.watch.stopped.set()
        team.world.wait()
        dist.destroy_process_group()


class _Watch:
    """Tells other processes of an error in this one, and ends this one on an error in another."""

    def __init__(self, world: DistributedContext) -> None:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        self.world = world
        self.failed = False
        self.stopped = threading.Event()
        host, store = os.environ["MASTER_ADDR"], None
        if world.is_main:
            store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        # A store apart from the group's: a failed process holds no collective call up here.
        port = world.broadcast_from_main(lambda: store.port if store else 0)
        self._store = store or TCPStore(host, port, is_master=False)
        self._lock = threading.Lock()
        self._parent = os.getppid()
        threading.Thread(target=self._look, daemon=True).start()

    def tell(self, error: BaseException) -> None:
        """Say that this process failed, unless another one did before."""
        self.failed = True
        code = 2 if isinstance(error, BadInput) else 1
        told = error if isinstance(error, BadInput | RunFailed) else _told(error)
        with self._lock:
            if not self._store.check(["failed"]):
                self._store.set("failed", json.dumps([self.world.rank, str(told), code]))

    def error(self) -> str | None:
        """Return the error of another process, if one failed."""
        with self._lock:
            if not self._store.check(["failed"]):
                return None
            rank, message, _ = json.loads(self._store.get("failed"))
        return None if rank == self.world.rank else f"process {rank}: {message}"

    def leave(self, error: BaseException) -> NoReturn:
        """End this worker process on an error, which the main process reports if it can."""
        self.failed = True
        if not isinstance(error, BadInput | RunFailed | KeyboardInterrupt):
            traceback.print_exception(error)
        time.sleep(2)  # an error in every process is the leader's to tell
        self.tell(error)
        time.sleep(GRACE_S)  # for the leader to speak before the launcher ends it
        os._exit(2 if isinstance(error, BadInput) else 1)

    def _look(self) -> None:
        while not self.stopped.wait(0.5):
            try:
                with self._lock:
                    raw = self._store.get("failed") if self._store.check(["failed"]) else None
            except RuntimeError:  # the leader, who keeps the store, is gone
                raw = b"[0, 0, 1]"
            if os.getppid() != self._parent:
                os._exit(1)
            if raw is None:
                continue
            rank, message, code = json.loads(raw)
            if rank == self.world.rank:
                return
            # Time to leave by oneself, and for the leader to have spoken.
            if self.stopped.wait(2 if self.world.is_main else GRACE_S):
                return
            if self.world.is_main:
                print(f"alignlab: process {rank}: {message}", file=sys.stderr, flush=True)
            os._exit(code)


def _told(error: BaseException) -> RunFailed:
    """An error of any kind as one that can be sent."""
    return RunFailed(f"{type(error).__name__}: {error}")
