"""Sample on several local engines of one model at once, each in a process of its own.

Requests that are completed together stay together: each engine draws the batches that a single
engine would draw, so that their texts are the same.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from alignlab import machine
from alignlab.errors import RunFailed
from alignlab.generation.local import LocalEngine
from alignlab.models.load import load
from alignlab.parallel import die_with
from alignlab.protocols import ChoiceScorer, Completer
from alignlab.training.conditioning import with_best_reward_prefix
from alignlab.types import Completion, CompletionRequest

KILLED = "a sampling process was killed (out of memory?); repeat to resume"


@dataclass(frozen=True)
class PooledModel:
    """Model of a pool, which each of its processes loads."""

    name: str
    """Name in records."""
    path: str
    dtype: str
    chat_template: str | None
    devices: tuple[str, ...]
    """Device of each engine."""
    threads: int
    """Torch threads of each engine."""


class EnginePool:
    """A `Completer` and `ChoiceScorer` over engines that work side by side.

    The processes start with the first request. They end when another pool of this process starts.
    """

    def __init__(self, model: PooledModel) -> None:
        self.name, self._model = model.name, model
        self._executors: list[ProcessPoolExecutor] = []
        self._calls: list[list[Future[Any]]] = []
        self._begun: dict[tuple[CompletionRequest, ...], Future[Any]] = {}

    def begin(self, requests: Sequence[CompletionRequest]) -> bool:
        """Start on requests that `complete` will be given later; return False where none is free.

        Further calls with the same requests do nothing.
        """
        key = tuple(requests)
        if key not in self._begun:
            if len(self._begun) >= 2 * len(self._model.devices):
                return False
            self._begun[key] = self._call(_complete, requests)
        return True

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in the order given, on one engine.

        Raises:
            RunFailed: a process was killed.
        """
        begun = self._begun.pop(tuple(requests), None)
        found: list[tuple[Completion, ...]] = _result(begun or self._call(_complete, requests))
        return found

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Return the log-probability in nats of each choice, as `LocalEngine` does."""
        found: list[tuple[float, ...]] = _result(self._call(_choices, requests, choices))
        return found

    def stop(self) -> None:
        """End the processes; a later request starts them again."""
        for executor in self._executors:
            executor.shutdown(wait=True, cancel_futures=True)
        self._executors, self._calls = [], []
        self._begun.clear()

    def _call(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Give a call to the engine with the fewest calls under way."""
        if not self._executors:
            self._start()
        loads = [sum(not call.done() for call in calls) for calls in self._calls]
        least = loads.index(min(loads))
        model, device = self._model, self._model.devices[least]
        try:
            future = self._executors[least].submit(work, model, device, *arguments)
        except BrokenProcessPool:
            raise RunFailed(KILLED) from None
        self._calls[least] = [*(c for c in self._calls[least] if not c.done()), future]
        return future

    def _start(self) -> None:
        stop_engines()
        count = len(self._model.devices)
        # The processes plan their memory at the same moment.
        begin = os.getpid(), self._model.threads, machine.free_memory() // count
        context = multiprocessing.get_context("spawn")
        self._executors = [ProcessPoolExecutor(1, context, _begin, begin) for _ in range(count)]
        self._calls = [[] for _ in range(count)]
        _started.append(self)


_started: list[EnginePool] = []
"""The pool of this process whose engines run."""


def stop_engines() -> None:
    """End the engines of this process, which give their memory back."""
    while _started:
        _started.pop().stop()


def _result(call: Future[Any]) -> Any:
    try:
        return call.result()
    except BrokenProcessPool:
        raise RunFailed(KILLED) from None


def _begin(parent: int, threads: int, share: int) -> None:
    import torch

    machine.limit_share(share)
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=die_with, args=(parent,), daemon=True).start()


@lru_cache(maxsize=1)
def _engine(model: PooledModel, device: str) -> Completer:
    lm = load(model.path, device=device, dtype=model.dtype, chat_template=model.chat_template)
    return with_best_reward_prefix(LocalEngine(lm, name=model.name), lm.path)


def _complete(
    model: PooledModel, device: str, requests: Sequence[CompletionRequest]
) -> list[tuple[Completion, ...]]:
    return _engine(model, device).complete(requests)


def _choices(
    model: PooledModel, device: str, requests: Sequence[CompletionRequest], choices: Sequence[str]
) -> list[tuple[float, ...]]:
    engine = _engine(model, device)
    assert isinstance(engine, ChoiceScorer)
    return engine.choice_logprobs(requests, choices)
