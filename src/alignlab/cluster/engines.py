"""Share engines on the nodes of a cluster among the tasks of a command (`hardware.engines`).

Engines are actors that reserve their resources before any task does, and wait for nobody: a task
that waits for an engine cannot keep it from running. A task whose engines are all gone computes in
its own process, for which it has reserved the memory, and so waits for no resources either.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from alignlab import parallel, progress
from alignlab.cluster import worker
from alignlab.cluster.placement import Layout
from alignlab.cluster.session import Session
from alignlab.cluster.worker import Ended, Order, Outbox, Site
from alignlab.errors import BadInput, EngineLost, RunFailed, first_line
from alignlab.runs import Run

START_S = 300.0
"""Seconds that an engine has to start."""
TRIES = 4
"""Attempts at a chunk whose engines are lost."""
POLL_S = 0.5
"""Seconds between two looks for a free engine."""
PING_S = 2.0
"""Seconds between two calls to a lost engine."""
PATIENCE_S = 30.0
"""Seconds without any engine after which a task computes its chunks itself."""


@dataclass(frozen=True)
class Setup:
    """Conditions under which an engine works; they come with each call, as engines start again."""

    site: Site
    name: str
    cpus: int
    mailbox: Any
    library: str = ""
    """vLLM with its version on the command's machine; empty for the local engine."""
    python: str = ""
    """Interpreter with vLLM, where the settings name one."""


class Engine:
    """Actor that computes chunks for the tasks of a command, one at a time."""

    def __init__(self) -> None:
        self._ready = False

    def ready(self, setup: Setup) -> Ended:
        """Set the environment up; an error is that of the node."""
        return worker.ended(lambda: self._begin(setup), setup.name, setup.site)

    def do(self, setup: Setup, work: bytes) -> Ended:
        """Call a function and return its result, or its own error.

        Args:
            work: pickled function and arguments.
        """

        def call() -> Any:
            self._begin(setup)
            function, arguments = pickle.loads(work)
            return function(*arguments)

        return worker.ended(call, setup.name, setup.site)

    def _begin(self, setup: Setup) -> None:
        """Set the environment up, once; no library that reads it has been imported before."""
        if self._ready:
            return
        site = setup.site
        worker.enter(site)
        progress.use(parallel.QueueSink(Outbox(setup.mailbox)))
        logging.getLogger("alignlab").addHandler(worker.Warnings())
        from alignlab import engine_pool  # noqa: F401  (imports torch, whose threads are set)

        worker.share(setup.cpus, site)
        where = worker.here(site)[0]
        _refuse_other_vllm(setup, where)
        Run(site.run).event("engine", engine=setup.name, node=where, pid=os.getpid())
        self._ready = True


def _refuse_other_vllm(setup: Setup, where: str) -> None:
    """Refuse a node without the vLLM of the command's machine."""
    if not setup.library:
        return
    from alignlab.generation.vllm_process import library_text

    if (found := library_text(setup.python)) != setup.library:
        raise BadInput(
            f"node {where}: expected {setup.library}, found {found}; install the same on every node"
        )


@dataclass(frozen=True)
class Handle:
    """An engine as those that call it see it."""

    actor: Any
    setup: Setup

    def ready(self) -> Any:
        """Ask whether it is there; return Ray's reference to the answer."""
        return self.actor.ready.remote(self.setup)

    def do(self, work: bytes) -> Any:
        """Call it; return Ray's reference to what it returns."""
        return self.actor.do.remote(self.setup, work)


def start(session: Session, layout: Layout, site: Site, mailbox: Any) -> list[Handle]:
    """Start the engines of a layout on their nodes, and return them when all are ready.

    Raises:
        RunFailed: the nodes have no room for one within five minutes.
        BadInput: a node that is not as the command's machine.
    """
    needs, python = layout.engine_needs(), layout.vllm.python if layout.vllm else ""
    kind = session.ray.remote(max_restarts=-1, max_task_retries=0)(Engine)
    resources = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory}
    engines = [
        Handle(
            # A lost engine starts again on any node.
            kind.options(
                scheduling_strategy=session.on_node(node.id, soft=True), **resources
            ).remote(),
            Setup(site, f"engine {number}", needs.cpus, mailbox, layout.library, python),
        )
        for number, node in enumerate(layout.places, 1)
    ]
    try:
        asked = [engine.ready() for engine in engines]
        _, waiting = session.ray.wait(asked, num_returns=len(asked), timeout=START_S)
        if waiting:
            raise RunFailed(
                f"hardware.engines: {len(waiting)} of {len(asked)} engines ({needs} each) did not "
                f"start within {START_S:.0f} s; does something else run on the cluster?"
            )
        for answer in session.ray.get(asked):
            if answer.error is not None:
                raise answer.error
    except BaseException:
        stop(session, engines)
        raise
    return engines


def stop(session: Session, engines: Sequence[Handle]) -> None:
    """End engines."""
    for engine in () if session.head.is_gone else engines:
        with suppress(Exception):
            session.ray.kill(engine.actor)


@contextmanager
def shared(engines: Sequence[Handle], order: Order) -> Iterator[ClusterEngines | None]:
    """Let a task's calls of local models go to engines; without any do nothing."""
    if not engines:
        yield None
        return
    from alignlab import engine_pool

    client = ClusterEngines(engines, order)
    try:
        with engine_pool.elsewhere(client):
            yield client
    finally:
        client.close()


class ClusterEngines:
    """Engines of a cluster as a task sees them; may be called from several threads.

    A call that was lost with its engine is made again on another one. A lost engine is called again
    when it has answered.
    """

    def __init__(self, engines: Sequence[Handle], order: Order) -> None:
        import ray

        self._engines, self._run, self._lost_error = engines, Run(order.site.run), ray.exceptions
        # Tasks begin with different engines.
        first = order.number % len(engines)
        self._preferred: list[int] = [*range(first, len(engines)), *range(first)]
        self._changed, self._alone = threading.Condition(), threading.Lock()
        self._busy: set[int] = set()
        self._lost: dict[int, tuple[Any, float]] = {}
        """Lost engine -> its answer, if it comes, and when it was asked for."""
        self._seen = time.monotonic()
        """When an engine was there."""
        self._closed = False
        self.peak_gigabytes = 0.0
        """Peak memory of the largest engine."""

    def call(self, function: Callable[..., Any], model: Any, *arguments: Any) -> Any:
        """Call `function(model, device, *arguments)` on an engine, as soon as one is free.

        Raises:
            RunFailed: the call was lost too often.
            Exception: the function's own error.
        """
        whole = (model, model.device, *arguments)
        work = pickle.dumps((function, whole))
        for attempt in range(1, TRIES + 1):
            engine = self._take()
            if engine is None:
                with self._alone:
                    return function(*whole)
            try:
                ended = self._ask(engine, work, attempt)
            finally:
                with self._changed:
                    self._busy.discard(engine)
                    self._changed.notify_all()
            if ended is not None:
                self.peak_gigabytes = max(self.peak_gigabytes, ended.peak_gigabytes)
                if ended.error is not None:
                    raise ended.error
                return pickle.loads(ended.result)
        raise RunFailed(f"a chunk was lost {TRIES} times with its engine; the same command resumes")

    def stop(self) -> None:
        """Give back the memory of a model that this process has loaded itself."""
        from alignlab import engine_pool

        with self._alone:
            engine_pool.forget_model()

    def close(self) -> None:
        """End the task's use of the engines; calls that it has given up are not made again."""
        self._closed = True
        self.stop()

    def _take(self) -> int | None:
        """Return an engine that is free, as soon as there is one; None where none is left."""
        with self._changed:
            while not self._closed:
                up = [engine for engine in self._preferred if self._is_up(engine)]
                if free := [engine for engine in up if engine not in self._busy]:
                    self._busy.add(free[0])
                    return free[0]
                if up:
                    self._seen = time.monotonic()
                elif time.monotonic() - self._seen > PATIENCE_S:
                    return None
                self._changed.wait(POLL_S)
        raise RunFailed("the task of this chunk has ended")

    def _is_up(self, engine: int) -> bool:
        """Return whether an engine was not lost, or has answered since; ask it again, if need be.

        A call to an engine that waits for resources would wait with it.
        """
        if engine not in self._lost:
            return True
        answer, asked = self._lost[engine]
        if not answer.done():
            return False
        if answer.exception() is None and answer.result().error is None:
            del self._lost[engine]
            return True
        if time.monotonic() - asked > PING_S:
            self._ping(engine)
        return False

    def _ping(self, engine: int) -> None:
        self._lost[engine] = (self._engines[engine].ready().future(), time.monotonic())

    def _ask(self, engine: int, work: bytes, attempt: int) -> Ended | None:
        """Return what an engine returned; None where it was lost.

        The wait is for a future, not Ray's, which would give this task's CPUs to another one.
        """
        try:
            ended: Ended = self._engines[engine].do(work).future().result()
            if not isinstance(ended.error, EngineLost):
                return ended
            detail = first_line(ended.error)
        except self._lost_error.RayError as error:
            detail = first_line(error)
        if self._closed:
            return None
        name = self._engines[engine].setup.name
        with self._changed:
            self._seen = time.monotonic()
            self._ping(engine)
        self._run.event(
            "lost", task=name, attempt=attempt, reason="the engine is gone", detail=detail
        )
        progress.say(f"{name}: gone; its chunk is asked for again")
        return None
