"""Do a task on a node of a cluster: its environment, its claim on the run, its progress.

No library that reads its environment when it is imported may be imported here: a task's
environment is set first. It comes with the task, as Ray writes its own "runtime environments" into
logs, and keys must not get there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import platform
import resource
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from alignlab import leases, machine, parallel, progress
from alignlab.errors import BadInput, RunFailed
from alignlab.files import write_text
from alignlab.leases import Lease
from alignlab.runs import Run

ENVIRONMENT = (
    "ALIGNLAB_", "CUBLAS_", "HF_", "MKL_", "NLTK_", "OMP_", "OPENAI_", "PYTORCH_", "TOKENIZERS_",
    "TORCH_", "TRACKIO_", "TRANSFORMERS_", "VLLM_", "WANDB_", "XDG_CACHE_",
)  # fmt: skip
"""Beginnings of the names of variables that tasks are given; others are the nodes' own."""
SAME = ("numpy", "tokenizers", "torch", "transformers")
"""Libraries whose versions decide what a study computes."""
WATCH_S = 0.5
"""Seconds between two looks at a task's claim."""
FLUSH_S = 10.0
"""Seconds that the last updates of a task may take to arrive."""


@dataclass(frozen=True)
class Site:
    """Conditions that all tasks of a command share."""

    run: Path
    folder: Path
    """Working folder of the command, to which relative paths refer."""
    lease: Lease | None
    versions: Mapping[str, str]
    """Versions that a node must have."""
    nodes: Mapping[str, tuple[str, int]]
    """Ray's name of a node -> its address, and the number of tasks and engines on it at once."""
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Order:
    """One attempt at a task, as sent to a node."""

    name: str
    number: int
    """Number of the task in the command."""
    attempt: int
    cpus: int
    work: bytes = field(repr=False)
    """Pickled function and arguments."""
    site: Site = field(repr=False)
    processes: int = 1
    """Processes that do the task together, of which rank 0 calls the function."""
    rank: int = 0

    @property
    def claim(self) -> tuple[Path, str]:
        """Return the file and the text under which the attempt may write."""
        lease = "" if self.site.lease is None else self.site.lease.id
        return self.site.run / ".tasks" / str(self.number), f"{lease} {self.attempt}\n"

    @property
    def started(self) -> Path:
        """Return the file into which the process writes the name of its node."""
        rank = f".{self.rank}" if self.rank else ""
        return self.claim[0].with_suffix(f".{self.attempt}{rank}")

    @property
    def master(self) -> Path:
        """Return the file into which rank 0 writes its address and port, for the others."""
        return self.claim[0].with_suffix(f".{self.attempt}.master")


@dataclass(frozen=True)
class Ended:
    """End of a task that was not lost."""

    result: bytes = field(default=b"", repr=False)
    """Pickled result."""
    error: Exception | None = None
    peak_gigabytes: float = 0.0
    """Peak memory of the process."""


class Mailbox:
    """Actor that keeps progress updates of the nodes until the command takes them."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def put(self, update: Any) -> None:
        """Keep an update."""
        self._kept.append(update)

    def take(self) -> list[Any]:
        """Return the updates since the last call."""
        taken, self._kept = self._kept, []
        return taken


class Outbox:
    """Sender to a mailbox; what a dead one does not receive is lost."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._last: Any = None

    def put(self, update: Any) -> None:
        """Send an update and do not wait."""
        self._last = self._mailbox.put.remote(update)

    def flush(self) -> None:
        """Wait until the mailbox has all updates, which it receives in their order."""
        import ray

        if self._last is not None:
            ray.wait([self._last], timeout=FLUSH_S)


def do(order: Order, mailbox: Any, engines: Sequence[Any] = ()) -> Ended:
    """Do a task and return its result, or its own error.

    An error that is raised instead, or none, means that the worker was lost.

    Args:
        engines: actors that compute for local models in its place.
    """
    from alignlab.cluster.engines import shared  # which runs in this module's terms

    peak = 0.0

    def work() -> Any:
        nonlocal peak
        enter(order.site)
        with _claimed(order), _shown(Outbox(mailbox)):
            function, arguments = pickle.loads(order.work)
            share(order.cpus, order.site)
            with shared(engines, order) as client:
                try:
                    if order.processes == 1:
                        return function(*arguments)
                    from alignlab.cluster.member import lead  # which imports torch

                    return lead(order, function, arguments)
                finally:
                    peak = client.peak_gigabytes if client else 0.0

    found = ended(work, order.name, order.site)
    return replace(found, peak_gigabytes=max(found.peak_gigabytes, peak))


def follow(order: Order) -> Ended:
    """Take part in the trainings of a task as one of its ranks, until it ends.

    An error is this process's own; one that is raised instead means that the worker was lost.
    """

    def work() -> None:
        enter(order.site)
        with _claimed(order):
            from alignlab.cluster.member import take_part  # which imports torch

            progress.use(progress.Silent())
            share(order.cpus, order.site)
            take_part(order)

    return ended(work, f"{order.name}, process {order.rank}", order.site)


def ended(work: Callable[[], Any], name: str, site: Site) -> Ended:
    """Return the pickled result of work, or its error.

    Args:
        name: what does the work, for the note on an error.
    """
    try:
        return Ended(pickle.dumps(work()), None, _peak_gigabytes())
    except Exception as error:
        return Ended(b"", _sendable(error, name, site), _peak_gigabytes())


def look(versions: Mapping[str, str], probe: Path) -> str:
    """Return how a node differs from the command's machine in one line; empty for not at all.

    Args:
        probe: file that the command has just made in the folder of runs.
    """
    if found := differing(versions):
        return found
    return "" if probe.exists() else f"expected the folder {probe.parent}, found another or none"


def warm_up(environment: Mapping[str, str]) -> None:
    """Import the libraries that tasks need, while the command plans the study.

    Args:
        environment: variables of the tasks, which these libraries read when they are imported.
    """
    set_environment(environment)
    import alignlab.context
    import alignlab.training.loop  # noqa: F401


def differing(expected: Mapping[str, str]) -> str:
    """Return the first version here that is not the expected one, in one line."""
    here = versions()
    for name, version in expected.items():
        if here.get(name) != version:
            return f"expected {name} {version}, found {here.get(name)}"
    return ""


@cache
def versions() -> dict[str, str]:
    """Return the versions that all nodes must have alike: source, Python and libraries."""
    found = {"python": platform.python_version()}
    found |= {name: metadata.version(name) for name in SAME}
    return {"alignlab": f"{metadata.version('alignlab')} ({source_digest()})"} | found


def source_digest() -> str:
    """Hash the source of the imported package; 12 hex digits."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.suffix in (".py", ".yaml", ".txt", ".jinja", ".json") and file.is_file():
            digest.update(f"{file.relative_to(root)}|".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def carried(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that tasks are given, keys included; never print them."""
    return {name: value for name, value in environment.items() if name.startswith(ENVIRONMENT)}


def enter(site: Site) -> None:
    """Set environment and folder.

    Raises:
        BadInput: the node is not as the command's machine.
    """
    if found := differing(site.versions):
        raise BadInput(f"node {here(site)[0]}: {found}; install the same on every node")
    set_environment(site.environment)
    try:
        os.chdir(site.folder)
    except OSError:
        raise BadInput(
            f"node {here(site)[0]}: expected the folder {site.folder}, found none"
        ) from None


def set_environment(environment: Mapping[str, str]) -> None:
    """Set the environment variables of tasks, and remove others with their prefixes."""
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT)]:
        if name not in environment:
            del os.environ[name]  # Ray sets OMP_NUM_THREADS
    os.environ.update(environment)


def share(cpus: int, site: Site) -> None:
    """Set this process's threads, and its share of the node's free memory."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(cpus)
    machine.limit_share(None)
    machine.limit_share(machine.free_memory() // max(1, here(site)[1]))


@contextmanager
def _claimed(order: Order) -> Iterator[None]:
    """Write under the task's claim, and end this process when it is lost."""
    claim, lease, done = order.claim, order.site.lease, threading.Event()
    leases.act_under(*claim)
    if lease is not None:
        lease.check()
        args = (lease, done)
        threading.Thread(target=_watch, args=args, name="claim", daemon=True).start()
    write_text(order.started, _node_id())
    if order.rank == 0:
        node = here(order.site)[0]
        Run(order.site.run).event(
            "task", task=order.name, attempt=order.attempt, node=node, pid=os.getpid()
        )
    try:
        yield
    except Exception:
        if lease is not None and lease.is_lost():
            os._exit(1)  # not an error of the task, which another worker does
        raise
    finally:
        done.set()
        leases.act_under(None)


def _watch(lease: Lease, done: threading.Event) -> None:
    """End this process when its run or its task was given to another."""
    while not done.wait(WATCH_S):
        if lease.is_lost():
            os._exit(1)


@contextmanager
def _shown(outbox: Outbox) -> Iterator[None]:
    """Send progress and warnings to the command."""
    sink, log, warn = parallel.QueueSink(outbox), logging.getLogger("alignlab"), Warnings()
    progress.use(sink)
    log.addHandler(warn)
    try:
        yield
    finally:
        log.removeHandler(warn)
        progress.use(progress.Silent())
        # Warnings of a task must not be overtaken by its result.
        outbox.flush()


class Warnings(logging.Handler):
    """Handler that shows warnings where the command shows its progress."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Show a warning."""
        progress.say(self.format(record))


def _sendable(error: Exception, name: str, site: Site) -> Exception:
    """Return an error that can be pickled, with its traceback as a note."""
    if not isinstance(error, BadInput | RunFailed):
        trace = "".join(traceback.format_exception(error))
        error.add_note(f"in {name} on {here(site)[0]}:\n{trace}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RunFailed(f"{name}: {type(error).__name__}: {error}")
    return error


def _peak_gigabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def here(site: Site) -> tuple[str, int]:
    """Return this node's address, and the number of tasks and engines that run on it at once."""
    node = _node_id()
    return site.nodes.get(node, (f"{node[:8]}, which came later", 1))


def _node_id() -> str:
    """Return Ray's name of this node."""
    import ray

    return str(ray.get_runtime_context().get_node_id())
