"""Submit the tasks of a command to a cluster, and give lost ones to other workers."""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alignlab import progress
from alignlab.cluster import engines, worker
from alignlab.cluster.gang import Gang
from alignlab.cluster.placement import Layout, TaskResources
from alignlab.cluster.session import Session
from alignlab.cluster.worker import Ended, Order, Site
from alignlab.errors import RunFailed, first_line
from alignlab.files import write_text
from alignlab.runs import Run

RETRIES = 3
"""Further attempts at a task whose worker or node was lost; its own errors are not tried again."""
POLL_S = 0.3
"""Seconds between two looks at the tasks and their progress."""
GRACE_S = 4 * worker.WATCH_S
"""Seconds before a task is given to another worker: a lost one that lives ends in less."""
FETCH_S = 120.0
"""Seconds that a finished result may take to arrive."""
LOOK_S = 5.0
"""Seconds between two looks at the nodes."""


@dataclass(frozen=True)
class Task:
    """Unit of work that runs on one node."""

    name: str
    key: Any
    """Identity of the task for its sender."""
    work: bytes = field(repr=False)
    """Pickled function and arguments."""
    among: int
    """Number of tasks that can run at the same time, this one included."""


@dataclass(frozen=True)
class _Attempt:
    task: Task
    number: int
    """Number of the task in the command."""
    of_task: int = 1
    """1 for the first attempt at the task."""
    lost: int = 0
    """Attempts that were lost before."""
    not_before: float = 0.0
    started: tuple[Path, ...] = ()
    """Files that name the node of each process as soon as it has started; none if not yet sent."""
    gang: Gang | None = None
    """Its places, where the task has several processes."""


Then = Callable[[Task, bytes], Iterable[Task]]
"""Function that takes a task's pickled result and returns the tasks that follow."""


class Tasks:
    """Tasks of one command on a cluster.

    Args:
        run: run directory, whose lease the tasks act under.
        layout: rules by which tasks share the nodes; its nodes are those at the beginning.
    """

    def __init__(self, session: Session, run: Run, layout: Layout) -> None:
        ray = session.ray
        self._session, self._run, self._layout = session, run, layout
        self._waiting: deque[_Attempt] = deque()
        self._flying: dict[Any, _Attempt] = {}
        self._numbers = 0
        self._looked = time.monotonic()
        self._stuck = False
        self._alive = {node.id for node in layout.nodes}
        self._room = list(layout.left)
        """Living nodes, with what the engines leave of them."""
        here = session.on_node(ray.get_runtime_context().get_node_id())
        mailbox = ray.remote(num_cpus=0, max_restarts=0)(worker.Mailbox)
        self._mailbox: Any = mailbox.options(scheduling_strategy=here).remote()
        # A process that was in a group of ranks does no other task.
        own = {"max_calls": 1} if layout.processes > 1 else {}
        self._do = ray.remote(max_retries=0, **own)(worker.do)
        self._follow = ray.remote(max_retries=0, **own)(worker.follow)
        self._engines: list[Any] = []
        self.peak_gigabytes = 0.0
        """Peak memory of the largest task."""

    def run(self, tasks: Iterable[Task], then: Then) -> None:
        """Run tasks, and those that follow them, to the end.

        Raises:
            RunFailed: a task was lost too often, or the cluster's head is gone.
            Exception: a task's own error.
        """
        claims = self._run.path / ".tasks"
        shutil.rmtree(claims, ignore_errors=True)  # of a killed command
        claims.mkdir()
        self._add(tasks)
        try:
            if self._layout.engines:
                site = self._site(self._layout.engine_needs())
                self._engines = engines.start(self._session, self._layout, site, self._mailbox)
            while self._waiting or self._flying:
                self._submit()
                for attempt, ended in self._ready():
                    self.peak_gigabytes = max(self.peak_gigabytes, ended.peak_gigabytes)
                    if ended.error is not None:
                        self._show()
                        raise ended.error
                    self._add(then(attempt.task, ended.result))
                self._show()
                self._session.head.check()
                self._look()
        except BaseException:
            # Records survive any kill, so there is nothing to wait for. Without a head Ray would
            # wait for it, and then end this process.
            for reference in () if self._session.head.is_gone else tuple(self._flying):
                with suppress(Exception):
                    self._session.ray.cancel(reference, force=True)
            for attempt in self._flying.values():
                _free(attempt)
            raise
        finally:
            engines.stop(self._session, self._engines)
            self._engines = []
            # A worker that lives on ends without its claim; those of another command are its own.
            if self._run.lease is None or not self._run.lease.is_lost():
                shutil.rmtree(claims, ignore_errors=True)

    def _add(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            self._numbers += 1
            self._waiting.append(_Attempt(task, self._numbers))

    def _submit(self) -> None:
        """Send the tasks that may run now to the cluster, which places them as nodes are free.

        No more than have room: of those that wait, Ray would take any, and a branch before the
        beginning of another seed's study, on which several branches wait.
        """
        now = time.monotonic()
        for _ in range(len(self._waiting)):
            attempt = self._waiting.popleft()
            needs = self._layout.needs(attempt.task.among)
            most = max(1, self._layout.slots(needs, self._room))
            most = min(most, self._layout.most or most)
            if attempt.not_before > now or len(self._flying) >= most:
                self._waiting.append(attempt)
                continue
            order = Order(
                attempt.task.name,
                attempt.number,
                attempt.of_task,
                needs.cpus,
                attempt.task.work,
                self._site(needs),
                self._layout.processes,
            )
            write_text(*order.claim)
            resources = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory}
            gang, place = None, "SPREAD"
            if order.processes > 1:
                gang = Gang(self._session, needs, order.processes)
                gang.start(self._follow, order, resources)
                place = gang.place(0)
            do = self._do.options(name=order.name, scheduling_strategy=place, **resources)
            sent = do.remote(order, self._mailbox, self._engines)
            started = tuple(replace(order, rank=k).started for k in range(order.processes))
            self._flying[sent] = replace(attempt, started=started, gang=gang)

    def _site(self, needs: TaskResources) -> Site:
        """Return what all processes share, where tasks of such needs run."""
        run, known, layout = self._run, worker.versions(), self._layout
        nodes = {
            node.id: (node.address, needs.slots(left) + layout.places.count(node))
            for node, left in zip(layout.nodes, layout.left, strict=True)
        }
        return Site(
            run.path.absolute(), Path.cwd(), run.lease, known, nodes, worker.carried(os.environ)
        )

    def _ready(self) -> Iterable[tuple[_Attempt, Ended]]:
        """Wait for the next ends of tasks; those of lost ones come again."""
        if not self._flying:
            time.sleep(POLL_S)
            return
        followers = [one for a in self._flying.values() if a.gang for one in a.gang.followers]
        waited = [*self._flying, *followers]
        ready, _ = self._session.ray.wait(waited, num_returns=1, timeout=POLL_S)
        self._take_followers(ready)
        for reference in [one for one in ready if one in self._flying]:
            attempt = self._flying.pop(reference)
            try:
                ended = self._ended(reference, attempt)
            finally:
                _free(attempt)
            if ended is not None:
                yield attempt, ended

    def _take_followers(self, ready: Sequence[Any]) -> None:
        """Take the followers that have ended; an attempt that lost one is lost.

        Raises:
            Exception: a follower's own error.
        """
        for reference, attempt in list(self._flying.items()):
            lost = attempt.gang.lost(ready, FETCH_S) if attempt.gang else None
            if lost is not None:
                del self._flying[reference]
                _free(attempt)
                self._lose(attempt, "one of its processes is gone", lost)

    def _ended(self, reference: Any, attempt: _Attempt) -> Ended | None:
        """Return how a task ended; None for one that was lost and is tried again.

        Raises:
            RunFailed: it was lost too often, or could not be started.
        """
        errors = self._session.ray.exceptions
        reasons = {
            errors.OutOfMemoryError: "its node ran out of memory",
            errors.NodeDiedError: "its node is gone",
            errors.WorkerCrashedError: "its worker is gone",
            errors.ObjectLostError: "its result was lost with its node",
            errors.GetTimeoutError: "its result did not arrive",
        }
        try:
            ended: Ended = self._session.ray.get(reference, timeout=FETCH_S)
            return ended
        except tuple(reasons) as error:
            reason = next(text for kind, text in reasons.items() if isinstance(error, kind))
            detail = first_line(error)
        except errors.RayTaskError as error:
            raise RunFailed(f"{attempt.task.name}: {first_line(error.cause or error)}") from None
        except errors.RayError as error:
            raise RunFailed(
                f"{attempt.task.name}: Ray failed: {first_line(error)}; the same command resumes"
            ) from None
        self._lose(attempt, reason, detail)
        return None

    def _lose(self, attempt: _Attempt, reason: str, detail: str) -> None:
        """Count a lost attempt, and wait with the next until its worker has seen it."""
        if self._run.lease is not None:
            self._run.lease.check()  # workers end where another command took the run
        name, lost = attempt.task.name, attempt.lost + 1
        self._run.event("lost", task=name, attempt=attempt.of_task, reason=reason, detail=detail)
        if lost > RETRIES:
            raise RunFailed(f"{name}: lost {lost} times ({reason}); the same command resumes")
        progress.say(f"{name}: {reason}; attempt {lost + 1} of {RETRIES + 1} goes on")
        self._repeat(replace(attempt, lost=lost))

    def _repeat(self, attempt: _Attempt) -> None:
        """Take the task from its worker, and send it again when the worker has seen that."""
        write_text(self._run.path / ".tasks" / str(attempt.number), "lost\n")
        later = time.monotonic() + GRACE_S
        again = replace(attempt, of_task=attempt.of_task + 1, not_before=later)
        self._waiting.append(replace(again, started=(), gang=None))

    def _show(self) -> None:
        """Show the progress of the tasks."""
        if self._mailbox is None:
            return
        try:
            taken = self._session.ray.get(self._mailbox.take.remote(), timeout=FETCH_S)
        except self._session.ray.exceptions.RayError:
            self._mailbox = None
            return
        for update in taken:
            if isinstance(update, str):
                progress.say(update)
            else:
                progress.show(update)

    def _look(self) -> None:
        """Give up attempts on dead nodes; tell once if no node is left for the others.

        Ray notices that a node is cut off, but goes on waiting for answers from it for minutes or
        for ever, as its connections are not closed.
        """
        if time.monotonic() - self._looked < LOOK_S or not self._flying:
            return
        self._looked = time.monotonic()
        if not self._session.head.answers():
            return  # Ray would wait for it, and then end this process
        nodes = self._session.nodes()
        alive = {node.id for node in nodes}
        if self._alive - alive:
            self._leave(alive)
        if self._alive != alive:
            known = {node.id: node for node in self._layout.left}
            self._room = [known.get(node.id, node) for node in nodes]
        self._alive = alive
        needs = [self._layout.needs(attempt.task.among) for attempt in self._flying.values()]
        stuck = bool(needs) and not any(self._layout.slots(need, nodes) for need in needs)
        if stuck and not self._stuck:
            number = self._layout.processes
            what = "a task" if number == 1 else f"each of a task's {number} processes"
            progress.say(f"no node is left with {needs[0]} for {what}; waiting for one")
        self._stuck = stuck

    def _leave(self, alive: set[str]) -> None:
        """Repeat attempts on nodes that are not alive, or that may be on their way to one."""
        for reference, attempt in list(self._flying.items()):
            nodes = [_text(file) for file in attempt.started]
            if all(node in alive for node in nodes):
                continue
            del self._flying[reference]
            with suppress(Exception):
                self._session.ray.cancel(reference, force=True)
            _free(attempt)
            if gone := [node for node in nodes if node and node not in alive]:
                self._lose(attempt, "its node is gone", f"node {gone[0]}")
            else:
                self._repeat(attempt)


def _free(attempt: _Attempt) -> None:
    """Give back the places of an attempt's processes."""
    if attempt.gang is not None:
        attempt.gang.end()


def _text(file: Path) -> str:
    """Read a file; empty where there is none."""
    try:
        return file.read_text()
    except OSError:
        return ""
