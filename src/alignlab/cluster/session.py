"""Connect to a Ray cluster, or start Ray on this machine for the time of a command."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alignlab.cluster import worker
from alignlab.cluster.placement import Node, this_node
from alignlab.errors import BadInput, RunFailed, first_line

AUTO = "auto"
ADDRESS = "RAY_ADDRESS"
"""Variable with the address that `auto` connects to, where it is set."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_LOG_TO_DRIVER": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}
"""Variables of Ray: nothing is reported, little is logged."""
STORE_BYTES = 256_000_000
"""Memory for results on their way, of a Ray started here."""
SOCKETS = 40
"""Most characters of the folder of temporary files: paths of sockets have at most 107."""
LOOK_S = 120.0
"""Seconds that a node has to answer the first question."""
BEAT_S = 2.0
"""Seconds between two looks at the head."""
SILENT_S = 45.0
"""Seconds of silence of the head after which a run ends; Ray would end the process at 60."""
REFUSED_S = 10.0
"""The same where its machine answers that nobody listens."""
HELD_S = 3.0
"""Seconds that a command has to end by itself when the head is gone."""


def require_ray() -> None:
    """Check that Ray is installed, without importing it.

    Raises:
        BadInput: it is not.
    """
    spec = find_spec("ray")
    if spec is None or spec.origin is None:
        raise BadInput(
            "setting hardware.cluster: expected the package ray, found none; install it with "
            "pip install 'alignlab[ray]', or leave the setting out"
        )


def refuse_address(address: str) -> None:
    """Refuse an address that is neither `auto` nor HOST:PORT.

    Raises:
        BadInput: such an address.
    """
    host, _, port = address.rpartition(":")
    if address != AUTO and not (host and port.isdigit() and "/" not in address):
        raise BadInput(
            f"setting hardware.cluster: expected auto, or HOST:PORT of the cluster's head (as `ray "
            f"start --head` prints it), found {address!r}"
        )


def is_elsewhere(address: str) -> bool:
    """Return whether a setting names a cluster that runs already."""
    return address != AUTO or bool(os.environ.get(ADDRESS))


@dataclass(frozen=True)
class Session:
    """Connection to a cluster."""

    ray: Any
    """The module."""
    address: str
    """Address of the head's control service, HOST:PORT."""
    head: HeadWatch

    def nodes(self) -> list[Node]:
        """Return the living nodes, in the order of their addresses."""
        found = [
            Node(
                one["NodeManagerAddress"],
                int(one["Resources"].get("CPU", 0)),
                int(one["Resources"].get("GPU", 0)),
                int(one["Resources"].get("memory", 0)),
                one["NodeID"],
            )
            for one in self.ray.nodes()
            if one["Alive"]
        ]
        return sorted((n for n in found if n.cpus), key=lambda n: (n.address, n.id))

    def on_node(self, node: str, soft: bool = False) -> Any:
        """Return the strategy that places a task on a node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node, soft=soft)

    def refuse_others(self, nodes: Sequence[Node], folder: Path) -> None:
        """Refuse nodes with another version of the source or its libraries, or another folder.

        Args:
            folder: existing folder of runs, which all nodes must see.

        Raises:
            BadInput: such a node, or one that does not answer.
        """
        probe = folder / f".{uuid.uuid4().hex}"
        look = self.ray.remote(num_cpus=0, max_retries=0)(worker.look)
        try:
            probe.touch()
            asked = {
                look.options(scheduling_strategy=self.on_node(n.id)).remote(
                    worker.versions(), probe
                ): n
                for n in nodes
            }
            self.ray.wait(list(asked), num_returns=len(asked), timeout=LOOK_S)
            for answer, node in asked.items():
                if found := self._answer(answer):
                    raise BadInput(f"node {node.address}: {found}")
        finally:
            probe.unlink(missing_ok=True)

    def warm_up(self, nodes: Sequence[Node]) -> None:
        """Start a process on each node that imports what tasks need, and do not wait for it.

        Not on nodes with GPUs: a process that has looked for them without one sees none later.
        """
        warm = self.ray.remote(num_cpus=0, max_retries=0)(worker.warm_up)
        for node in nodes:
            if not node.gpus:
                place = self.on_node(node.id)
                warm.options(scheduling_strategy=place).remote(worker.carried())

    def _answer(self, answer: Any) -> str:
        """Return a node's difference from this machine in one line; empty for none."""
        try:
            found: str = self.ray.get(answer, timeout=1)
        except self.ray.exceptions.GetTimeoutError:
            return f"expected an answer within {LOOK_S:.0f} s, found none"
        except self.ray.exceptions.RayTaskError as error:
            mine = worker.versions()["alignlab"]
            return f"expected alignlab {mine}, found: {first_line(error.cause)}"
        except self.ray.exceptions.RayError as error:
            return f"expected an answer, found: {first_line(error)}"
        return found and f"{found}; expected the same on every node"


class HeadWatch:
    """Watch on the head, without which Ray would end this process after a minute.

    Args:
        address: HOST:PORT of its control service.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._looked = self._heard = time.monotonic()
        self.is_gone = False
        """True after `check` has raised."""
        self.left = threading.Event()
        """Set when the command has left the cluster."""

    def answers(self) -> bool:
        """Return whether the head's port can be reached now."""
        try:
            socket.create_connection(self._address, timeout=BEAT_S).close()
        except OSError:
            return False
        return True

    def check(self) -> None:
        """Look at the head, every few seconds.

        Raises:
            RunFailed: it is silent for too long.
        """
        now = time.monotonic()
        if now - self._looked < BEAT_S and not self.is_gone:
            return
        self._looked, most = now, SILENT_S
        try:
            socket.create_connection(self._address, timeout=BEAT_S).close()
            self._heard = now
        except ConnectionRefusedError:
            most = REFUSED_S
        except OSError:
            pass
        if time.monotonic() - self._heard > most:
            self.is_gone = True
            host, port = self._address
            raise RunFailed(
                f"the head of the cluster at {host}:{port} does not answer; the same command "
                "resumes when it does"
            )

    def watch(self) -> None:
        """Look at the head until the command has left, and end a process that Ray holds up.

        Calls of Ray that need the head do not return without it.
        """
        while not self.left.wait(BEAT_S):
            try:
                self.check()
            except RunFailed as error:
                if not self.left.wait(HELD_S):
                    print(f"alignlab: {error}", file=sys.stderr, flush=True)
                    os._exit(1)
                return


@contextmanager
def connected(address: str) -> Iterator[Session]:
    """Connect to a cluster for the time of the block.

    A Ray to which this process is connected already is used, and left as it is.

    Args:
        address: setting `hardware.cluster`.

    Raises:
        BadInput: no cluster at the address, or this machine is not one of its nodes.
    """
    require_ray()
    with _environment(QUIET), _signals():
        import ray

        if ray.is_initialized():
            yield _session(ray)
            return
        place, session = _place(), None
        with _environment({} if is_elsewhere(address) else _own()):
            try:
                _start(ray, address, place)
                _handle(_stop)
                _silence(ray)
                session = _session(ray)
                threading.Thread(target=session.head.watch, name="head", daemon=True).start()
                yield session
            finally:
                if session is not None:
                    session.head.left.set()
                _leave(ray, session)
                shutil.rmtree(place, ignore_errors=True)


def _session(ray: Any) -> Session:
    address = str(ray.get_runtime_context().gcs_address)
    return Session(ray, address, HeadWatch(address))


def _start(ray: Any, address: str, place: Path) -> None:
    """Connect to the cluster at an address, or start Ray on this machine."""
    known = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if is_elsewhere(address):
        where = os.environ[ADDRESS] if address == AUTO else address
        try:
            ray.init(address=where, **known)
        except Exception as error:  # several kinds, by version
            raise BadInput(
                f"hardware.cluster: expected a Ray cluster at {where} of which this machine is a "
                f"node, found: {first_line(error)}"
            ) from None
        return
    node = this_node()
    ray.init(
        address="local",
        num_cpus=node.cpus,
        num_gpus=node.gpus,
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        _memory=node.memory,
        _temp_dir=str(place),
        **known,
    )


def _leave(ray: Any, session: Session | None) -> None:
    """Disconnect, and end a Ray that was started here."""
    if session is not None and session.head.is_gone:
        # Ray would wait for the head, and then end this process with stacks instead of a line.
        atexit.unregister(ray._private.worker.shutdown)
        return
    with suppress(Exception):
        ray.shutdown()


@cache
def _own() -> Mapping[str, str]:
    """Return variables that let this process alone use the Ray that it starts.

    Ray keeps the first token of a process, and writes one into the home folder if none is given.
    """
    return {"RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)}


def _place() -> Path:
    """Make a folder for Ray's files and sockets."""
    place = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="alignlab-", dir=place if len(place) < SOCKETS else "/tmp"))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (*values, "RAY_AUTH_MODE")}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces by one that prints stacks."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        _handle(before)


def _silence(ray: Any) -> None:
    """Keep Ray's messages about lost workers from stdout; the tasks' own lines tell of them."""
    private = ray._private.worker
    if hasattr(private, "print_to_stdstream"):  # no setting does this
        private.print_to_stdstream = lambda *args, **kwargs: None


def _handle(handler: Any) -> None:
    with suppress(ValueError):  # in another thread than the main one Ray sets none either
        signal.signal(signal.SIGTERM, handler)


def _stop(number: int, frame: Any) -> None:
    """End the process in order, so that Ray ends too."""
    del frame
    raise SystemExit(128 + number)
