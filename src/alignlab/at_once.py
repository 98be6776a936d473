"""Work through chunks in their order while several are computed, for completers with engines."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeVar

from alignlab import meter
from alignlab.types import Usage

S = TypeVar("S")
T = TypeVar("T")

JUDGE_CHUNK = 64
"""Prompts per unit of judging, rated and written together."""
AHEAD = 2
"""Chunks under way or waiting to be written, per chunk that is computed at once."""


def at_once(*parts: object) -> int:
    """Return how many chunks local engines behind all completers or sources can take at once.

    0 where one of them is no local model's: an endpoint has its own way of making calls at once,
    and nothing is known of others.
    """
    return min((getattr(part, "at_once", 0) for part in parts), default=0)


def by_chunk(work: Callable[[Sequence[S]], list[T]], items: Sequence[S], engines: int) -> list[T]:
    """Do work on chunks of items, on several engines at once; without engines in one call."""
    size = JUDGE_CHUNK if engines else max(1, len(items))
    parts = [items[i : i + size] for i in range(0, len(items), size)]
    return [one for found in in_order(work, parts, engines) for one in found]


def in_order(work: Callable[[S], T], items: Sequence[S], threads: int) -> Iterator[T]:
    """Yield the result of each item, in order, with so many computed at once.

    Calls that the work makes are counted in the caller's thread, with the result of their item.

    Args:
        work: function that may be called from several threads; it should wait rather than compute.
        threads: items at once; with 1 or less the caller's thread does the work.

    Raises:
        Exception: the error of the first item that failed, when its turn has come.
    """
    if threads <= 1 or len(items) <= 1:
        yield from map(work, items)
        return
    todo: SimpleQueue[tuple[S, Future[tuple[T, Usage]]] | None] = SimpleQueue()
    begun: deque[Future[tuple[T, Usage]]] = deque()
    count = min(threads, len(items))
    for number in range(count):
        # Daemons, as a command that is stopped does not wait for its engines.
        threading.Thread(target=_do, args=(work, todo), name=f"chunk-{number}", daemon=True).start()
    rest = iter(items)
    try:
        for _ in items:
            for item in islice(rest, AHEAD * count - len(begun)):
                begun.append(Future())
                todo.put((item, begun[-1]))
            result, used = begun.popleft().result()
            meter.add(used)
            yield result
    finally:
        for future in begun:
            future.cancel()
        for _ in range(count):
            todo.put(None)


def _do(work: Callable[[Any], Any], todo: SimpleQueue[Any]) -> None:
    """Do one item after the other until there is none."""
    while (one := todo.get()) is not None:
        item, future = one
        if not future.set_running_or_notify_cancel():
            continue
        before = meter.mark()
        try:
            result = work(item)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result((result, meter.since(before)))
