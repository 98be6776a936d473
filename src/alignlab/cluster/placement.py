"""Plan which node of a cluster runs how many tasks at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alignlab import machine
from alignlab.errors import BadInput

PROCESS_BYTES = 500_000_000
"""Memory of a process before it loads a model: the interpreter and its libraries."""


@dataclass(frozen=True)
class Node:
    """Resources of one machine of a cluster."""

    address: str
    """Address in the cluster's network."""
    cpus: int
    gpus: int = 0
    memory: int = 0
    """Bytes that tasks can reserve."""
    id: str = ""
    """Ray's name of the node; empty for a machine on which Ray does not run yet."""

    def __str__(self) -> str:
        gpus = f"{_counted(self.gpus, 'GPU')}, " if self.gpus else ""
        return f"{self.address}: {_counted(self.cpus, 'CPU')}, {gpus}{self.memory / 1e9:.1f} GB"


@dataclass(frozen=True)
class Needs:
    """Resources that a task reserves."""

    cpus: int
    """CPUs, and torch threads."""
    gpus: int = 0
    memory: int = 0
    """Bytes."""

    def __str__(self) -> str:
        gpus = f"{_counted(self.gpus, 'GPU')}, " if self.gpus else ""
        return f"{_counted(self.cpus, 'CPU')}, {gpus}{self.memory / 1e9:.1f} GB"

    def slots(self, node: Node) -> int:
        """Return how many such tasks a node can run at once."""
        limits = [node.cpus // self.cpus]
        limits += [node.gpus // self.gpus] if self.gpus else []
        limits += [node.memory // self.memory] if self.memory else []
        return min(limits)


def this_node() -> Node:
    """Return the resources of this machine that a Ray started here would offer."""
    gpus = 0
    if any(os.path.exists(f"/dev/nvidia{n}") for n in range(64)):
        import torch

        gpus = torch.cuda.device_count()
    return Node("this machine", machine.cores(), gpus, machine.plannable_memory())


def needs_gpu(device: str, nodes: Sequence[Node]) -> bool:
    """Return whether tasks reserve a GPU each.

    Args:
        device: setting `hardware.device`; "auto" takes GPUs if there are any.

    Raises:
        BadInput: a GPU is asked for, and no node has one; or one GPU of a machine is named.
    """
    found = any(node.gpus for node in nodes)
    if device.startswith("cuda:"):
        raise BadInput(
            f"setting hardware.device: expected auto, cpu or cuda with hardware.cluster, which "
            f"gives each task a GPU of its own, found {device!r}"
        )
    if device == "cuda" and not found:
        raise BadInput(
            f"setting hardware.device: expected a cluster with GPUs, found none on its "
            f"{_counted(len(nodes), 'node')}"
        )
    return found and device in ("auto", "cuda")


@dataclass(frozen=True)
class Layout:
    """Rules by which the tasks of a study share the nodes of a cluster."""

    nodes: Sequence[Node]
    gpu: bool = False
    """Give each task a GPU of its own."""
    memory: int = 0
    """Bytes that a task is planned to use, without the interpreter."""
    threads: int = 0
    """Torch threads of each task; 0 shares the CPUs out."""
    most: int = 0
    """Most tasks at once; 0 is no limit."""

    def needs(self, tasks: int) -> Needs:
        """Return the resources of each of so many tasks that could run at once.

        CPUs are shared out among the tasks; none gets more than the smallest usable node has, or
        than leaves a CPU for each of its GPUs. The load of the machines has no part in it. Memory
        is at most all of the largest node's, as plans are bounds.
        """
        usable = [node for node in self.nodes if node.gpus] if self.gpu else list(self.nodes)
        if not usable:
            raise BadInput("hardware.cluster: expected nodes that run tasks, found none")
        most = min(node.cpus // node.gpus if self.gpu else node.cpus for node in usable)
        usual = os.environ.get("OMP_NUM_THREADS", "")
        most = min(most, int(usual)) if usual.isdigit() else most
        fair = sum(node.cpus for node in usable) // max(1, tasks)
        largest = max(node.memory for node in usable)
        memory = min(self.memory + PROCESS_BYTES, largest)
        return Needs(self.threads or max(1, min(most, fair)), int(self.gpu), memory)

    def at_once(self, tasks: int) -> int:
        """Return how many of so many tasks run at once.

        Raises:
            BadInput: no node can run one.
        """
        needs = self.needs(tasks)
        total = sum(needs.slots(node) for node in self.nodes)
        if not total:
            found = "; ".join(map(str, self.nodes))
            raise BadInput(
                f"hardware.cluster: expected a node with {needs} for a task, found {found}"
            )
        return min(total, tasks, self.most or total)

    def lines(self, tasks: int) -> Iterator[str]:
        """Yield the lines of a plan: how many tasks run at once, and on which nodes.

        Args:
            tasks: number of tasks that can be done at the same time.
        """
        needs, limit = self.needs(tasks), f", at most {self.most}" if self.most else ""
        ready = "1 task" if tasks == 1 else f"up to {tasks} tasks"
        yield f"{ready} ready at a time, {needs} each: {self.at_once(tasks)} at once{limit}"
        for node in self.nodes:
            yield f"{node}; {_counted(needs.slots(node), 'task')} at once"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
