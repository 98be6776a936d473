"""Run independent branches of a study in worker processes, which die with their parent."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from alignlab import machine, progress
from alignlab.errors import RunFailed


@dataclass(frozen=True)
class Branch:
    """One unit of work: an importable function and its picklable arguments."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


Runner = Callable[[Sequence[Branch]], list[Any]]
"""Function that runs branches and returns their results in order."""

_elsewhere: Runner | None = None


@contextmanager
def elsewhere(runner: Runner) -> Iterator[None]:
    """Let a function run the branches of the block, instead of processes of this machine."""
    global _elsewhere
    before, _elsewhere = _elsewhere, runner
    try:
        yield
    finally:
        _elsewhere = before


def run_branches(branches: Sequence[Branch], workers: int, threads: int) -> list[Any]:
    """Run every branch and return their results in order.

    Args:
        branches: units of work, longest first.
        workers: number of processes; 1 runs the branches in this process, in order.
        threads: torch threads of each process.

    Raises:
        RunFailed: a worker was killed.
        Exception: the first error of a branch, unchanged.
    """
    if _elsewhere is not None:
        return _elsewhere(branches)
    if workers <= 1 or len(branches) <= 1:
        return [branch.function(*branch.arguments) for branch in branches]
    context = multiprocessing.get_context("spawn")
    updates = context.Queue()
    processes = min(workers, len(branches))
    # The processes plan their memory at the same moment.
    share = machine.free_memory() // processes
    begin = updates, os.getpid(), threads, share
    pool = ProcessPoolExecutor(processes, context, _begin_worker, begin)
    # A worker that is killed while it writes holds the queue's lock for good: this process never
    # writes to it, and so waits for no thread that does.
    ended = threading.Event()
    listener = threading.Thread(target=_show_updates, args=(updates, ended), daemon=True)
    listener.start()
    try:
        futures = [pool.submit(branch.function, *branch.arguments) for branch in branches]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = next((f.exception() for f in done if f.exception()), None)
        if isinstance(failed, BrokenProcessPool):
            raise RunFailed("a worker process was killed (out of memory?); repeat to resume")
        if failed:
            raise failed
        return [future.result() for future in futures]
    except BaseException:
        # Records survive any kill, so there is nothing to wait for.
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        ended.set()
        listener.join(timeout=2)


class QueueSink:
    """Sink that sends a worker's progress to the main process, a few times a second.

    Args:
        updates: queue, or an object with its method `put`.
    """

    def __init__(self, updates: Any) -> None:
        self._updates = updates
        self._sent: dict[str, float] = {}

    def show(self, update: progress.Update) -> None:
        """Send an update, unless one of its task was sent just before."""
        now = time.monotonic()
        if update.finished or now - self._sent.get(update.task, 0.0) > 0.2:
            self._sent[update.task] = now
            self._updates.put(update)

    def say(self, text: str) -> None:
        """Send lines of text."""
        self._updates.put(text)


def _begin_worker(updates: Any, parent: int, threads: int, share: int) -> None:
    import torch

    machine.limit_share(share)
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    progress.use(QueueSink(updates))
    threading.Thread(target=die_with, args=(parent,), daemon=True).start()


def die_with(parent: int) -> None:
    """Exit this process when its parent is gone, so that a killed run leaves no workers."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _show_updates(updates: Any, ended: threading.Event) -> None:
    """Show what the workers report, until none is left after the end."""
    while True:
        try:
            update = updates.get(timeout=0.1)
        except queue.Empty:
            if ended.is_set():
                return
            continue
        except (EOFError, OSError):
            return
        if isinstance(update, str):
            progress.say(update)
        else:
            progress.show(update)
