"""Join the processes of a task into one group of ranks, which share its trainings.

Rank 0 does the task and tells the followers its address by a file; they serve its trainings until
it has ended. A process that finds another one lost ends too, which costs the attempt.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import ray
import torch

from alignlab.cluster.worker import Order
from alignlab.files import write_text
from alignlab.runs import Run
from alignlab.training import ranks
from alignlab.training.distributed import DistributedContext

POLL_S = 0.2
"""Seconds between two looks for the address of rank 0."""


def lead(order: Order, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Call a function as rank 0, whose trainings the followers share; return its result.

    Raises:
        Exception: the function's own error, or that of a training.
    """
    found = []

    @ranks.main_process_only
    def command() -> None:
        members = ranks.run_on_all_ranks(_members, order.cpus, sharded=False, device="cpu", here={})
        Run(order.site.run).event(
            "processes", task=order.name, attempt=order.attempt, processes=members
        )
        found.append(function(*arguments))

    address, port = ray.util.get_node_ip_address(), _free_port()
    write_text(order.master, json.dumps([address, port]))
    with _group(order, address, port):
        command()
    return found[0]


def take_part(order: Order) -> None:
    """Serve the trainings of a task until it ends.

    Raises:
        Exception: an error of this process.
    """
    while not order.master.exists():
        time.sleep(POLL_S)
    address, port = json.loads(order.master.read_text(encoding="utf-8"))
    with _group(order, address, port):
        ranks.take_part()


@contextmanager
def _group(order: Order, address: str, port: int) -> Iterator[None]:
    """Let this process join the group of a task, and leave it at the end of the block.

    The process ends where another one was lost: that is no error of the task.
    """
    variables = {
        "RANK": str(order.rank),
        "WORLD_SIZE": str(order.processes),
        # Each process sees its own GPU alone, and shares no memory with the others.
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }
    os.environ.update(variables)
    if interface := _interface(ray.util.get_node_ip_address()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    try:
        yield
    except Exception as error:
        if not ranks.is_own(error):
            os._exit(1)
        with suppress(RuntimeError):
            ranks.part()
        raise
    try:
        ranks.part()
    except RuntimeError:
        os._exit(1)
    for name in variables:
        os.environ.pop(name, None)


def _members(world: DistributedContext, cpus: int) -> list[dict[str, Any]]:
    """Return node and process of each rank, in order."""
    # accelerate sets the threads of processes that it joins.
    torch.set_num_threads(cpus)
    return world.all_gather({"node": ray.util.get_node_ip_address(), "pid": os.getpid()})


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def _interface(address: str) -> str:
    """Return the network interface of an address; empty where none is known."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return str(name)
    return ""
