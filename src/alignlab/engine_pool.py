"""Sample from local models on several engines at once, each in a process of its own.

Requests that are completed together stay together: each engine draws the batches that a single
engine would draw, so that their texts are the same. Engines are processes of this machine, or
actors of a cluster (`alignlab.cluster.engines`); each holds one model, that of its last call, or a
vLLM process with its weights.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.util import Finalize
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from alignlab import machine
from alignlab.errors import RunFailed
from alignlab.generation.local import LocalEngine, LocalOptions, engine_name
from alignlab.generation.vllm_sampler import VllmSampler, VllmSamplerOptions
from alignlab.models.load import load
from alignlab.models.locate import locate
from alignlab.parallel import die_with
from alignlab.protocols import ChoiceScorer, Completer
from alignlab.specs import read_options
from alignlab.training.conditioning import with_best_reward_prefix
from alignlab.types import Checkpoint, Completion, CompletionRequest

ENGINE_LOGS = "engines"
"""Folder of a run for what vLLM prints."""
KILLED = "a sampling process was killed (out of memory?); repeat to resume"


@dataclass(frozen=True)
class PooledModel:
    """Model that each of several engines loads when it is first asked for it."""

    name: str
    """Name in records."""
    path: str
    dtype: str
    chat_template: str | None
    device: str
    """Type of the engines' devices, "cpu" or "cuda"."""
    engines: int
    """Number of engines; those of this machine have a GPU each if the device is "cuda"."""
    threads: int
    """Torch threads of each engine of this machine."""
    batch_size: int = 256
    """Samples per batch."""
    conditioned: bool = True
    """Request the best bin of a reward-conditioned model."""
    vllm: VllmSamplerOptions | None = None
    """Options of vLLM, which samples; None for the local engine."""
    logs: str = ""
    """Folder for what vLLM prints."""


class Engines(Protocol):
    """Engines that take one call at a time each."""

    def call(self, function: Callable[..., Any], model: PooledModel, *arguments: Any) -> Any:
        """Call `function(model, device, *arguments)` on an engine, as soon as one is free."""
        ...

    def stop(self) -> None:
        """Give the memory of this process's engines back."""
        ...


class EnginePool:
    """A `Completer` and `ChoiceScorer` over engines that work side by side.

    It may be called from several threads; each call goes to one engine. Engines of this machine
    start with the first call.
    """

    def __init__(self, model: PooledModel) -> None:
        self.name, self._model = model.name, model
        self.at_once = model.engines
        """Chunks that it takes at once; see `at_once`."""

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in the order given, on one engine.

        Raises:
            RunFailed: a process was killed.
        """
        found: list[tuple[Completion, ...]] = self._call(complete_on, requests)
        return found

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Return the log-probability in nats of each choice, as `LocalEngine` does."""
        found: list[tuple[float, ...]] = self._call(choices_on, requests, choices)
        return found

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return _engines_of(self._model).call(function, self._model, *arguments)


def pool_of_spec(rest: str, pooled: Callable[[Checkpoint, str], PooledModel]) -> EnginePool | None:
    """Return the engines of a spec local:REST; None for one with a device of its own.

    Args:
        pooled: function of a model and its type that returns the engines' settings.
    """
    named = read_options(rest, LocalOptions)
    folder, options = named.name, named.options
    if options.device != "auto":
        return None
    template, name = options.chat_template, options.name
    if name is None:
        lm = load(folder, device="cpu", chat_template=template, deferred=True)
        name = engine_name(lm, folder)
    model = replace(
        pooled(Checkpoint(name, folder), options.dtype),
        chat_template=template,
        batch_size=options.batch_size,
        conditioned=False,
    )
    return EnginePool(model)


class ProcessEngines:
    """Engines that are processes of this machine."""

    def __init__(self, devices: Sequence[str], threads: int) -> None:
        self._devices, self._free = devices, SimpleQueue[int]()
        # The processes plan their memory at the same moment.
        self._begun = os.getpid(), threads, machine.free_memory() // len(devices)
        self.executors = [self._process() for _ in devices]
        for engine in range(len(devices)):
            self._free.put(engine)

    def call(self, function: Callable[..., Any], model: PooledModel, *arguments: Any) -> Any:
        """Call a function on an engine, as soon as one is free.

        Raises:
            RunFailed: its process was killed.
        """
        engine = self._free.get()
        try:
            executor, device = self.executors[engine], self._devices[engine]
            return executor.submit(function, model, device, *arguments).result()
        except BrokenProcessPool:
            self.executors[engine] = self._process()  # for the next call
            raise RunFailed(KILLED) from None
        finally:
            self._free.put(engine)

    def stop(self) -> None:
        """End the processes."""
        for executor in self.executors:
            executor.shutdown(wait=True, cancel_futures=True)

    def kill(self) -> None:
        """End the processes with the chunks under way, which are done again on resume."""
        for executor in self.executors:
            for process in list((executor._processes or {}).values()):
                process.kill()

    def _process(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, context, _begin, self._begun)


_elsewhere: Engines | None = None
"""Engines of a cluster, in a process that does one of its tasks."""
_here: dict[tuple[tuple[str, ...], int], ProcessEngines] = {}
"""Devices and threads -> the engines of this process that run; one entry at most."""
_starting = threading.Lock()


@contextmanager
def elsewhere(engines: Engines) -> Iterator[None]:
    """Let other engines than this machine's processes take the calls of the block."""
    global _elsewhere
    before, _elsewhere = _elsewhere, engines
    try:
        yield
    finally:
        _elsewhere = before


def stop_engines() -> None:
    """Give back the memory of this process's engines; a later call starts them again."""
    if _elsewhere is not None:
        _elsewhere.stop()
    while _here:
        _here.popitem()[1].stop()


def kill_engines() -> None:
    """End the engines of this machine at once, as a command does that fails or is stopped."""
    for engines in list(_here.values()):
        engines.kill()
    _here.clear()


def _engines_of(model: PooledModel) -> Engines:
    """Return the engines for a model, started if need be."""
    if _elsewhere is not None:
        return _elsewhere
    cuda = model.device == "cuda"
    devices = tuple(f"cuda:{k}" if cuda else "cpu" for k in range(model.engines))
    key = devices, model.threads
    with _starting:
        if key not in _here:
            stop_engines()
            _here[key] = ProcessEngines(devices, model.threads)
        return _here[key]


def _begin(parent: int, threads: int, share: int) -> None:
    import torch

    machine.limit_share(share)
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Finalize(None, forget_model, exitpriority=0)  # waits for the end of vLLM
    threading.Thread(target=die_with, args=(parent,), daemon=True).start()


_held: dict[tuple[PooledModel, str], Completer] = {}
"""The model that this engine holds, on its device."""
_vllm: dict[tuple[VllmSamplerOptions, str], VllmSampler] = {}
"""The vLLM process of this engine, on its device."""


def engine_of(model: PooledModel, device: str) -> Completer:
    """Return the engine of a model in this process; the model of the last call gives way."""
    engine: Completer
    if model.vllm is not None:
        engine = _served(model, model.vllm, device)
    else:
        if (model, device) not in _held:
            forget_model()
            lm = load(
                model.path, device=device, dtype=model.dtype, chat_template=model.chat_template
            )
            _held[model, device] = LocalEngine(lm, batch_size=model.batch_size, name=model.name)
        engine = _held[model, device]
    return with_best_reward_prefix(engine, locate(model.path)) if model.conditioned else engine


def _served(model: PooledModel, options: VllmSamplerOptions, device: str) -> VllmSampler:
    """Return this process's vLLM with the weights of a model."""
    import torch

    key = options, device
    if key not in _vllm:
        forget_model()
        log = Path(model.logs) / f"vllm.{socket.gethostname()}.{os.getpid()}.log"
        _vllm[key] = VllmSampler(options, device=device, threads=torch.get_num_threads(), log=log)
    _vllm[key].take(
        model.path, name=model.name, dtype=model.dtype, chat_template=model.chat_template
    )
    return _vllm[key]


def forget_model() -> None:
    """Give back the memory of the model that this process's engine holds."""
    while _vllm:
        _vllm.popitem()[1].close()
    if _held:
        _held.clear()
        machine.give_back_memory()


def complete_on(
    model: PooledModel, device: str, requests: Sequence[CompletionRequest]
) -> list[tuple[Completion, ...]]:
    """Complete requests in this process."""
    return engine_of(model, device).complete(requests)


def choices_on(
    model: PooledModel, device: str, requests: Sequence[CompletionRequest], choices: Sequence[str]
) -> list[tuple[float, ...]]:
    """Return the log-probabilities of choices in this process."""
    engine = engine_of(model, device)
    assert isinstance(engine, ChoiceScorer)
    return engine.choice_logprobs(requests, choices)
