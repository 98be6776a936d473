"""Plan which node of a cluster runs how many tasks at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

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
class TaskResources:
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
    """Rules by which the engines and tasks of a study share the nodes of a cluster."""

    nodes: Sequence[Node]
    gpu: bool = False
    """Give each engine and each task a GPU of its own."""
    memory: int = 0
    """Bytes that a task is planned to use, without the interpreter."""
    threads: int = 0
    """Torch threads of each task and engine; 0 shares the CPUs out."""
    most: int = 0
    """Most tasks at once; 0 is no limit."""
    engines: int = 0
    """Engines that all tasks share, which keep their resources; 0 lets tasks sample themselves."""
    engine_memory: int = 0
    """Bytes that an engine is planned to use, without the interpreter."""
    processes: int = 1
    """Processes of each task, which share its trainings; each reserves the resources of one."""
    vllm: Any = None
    """Options of the vLLM of each engine, `VllmSamplerOptions`; None for the local engine."""
    library: str = ""
    """Name and version of the engines' library; empty for the local engine."""

    def needs(self, tasks: int) -> TaskResources:
        """Return the resources of each process of so many tasks that could run at once.

        CPUs that the engines leave are shared out among the tasks; none gets more than the smallest
        usable node has, or than leaves a CPU for each of its GPUs. The load of the machines has no
        part in it. Memory is at most all of the largest node's, as plans are bounds.
        """
        return self._share(self.left, tasks * self.processes, self.memory)

    def engine_needs(self) -> TaskResources:
        """Return the resources of each engine; its CPUs are as if one task ran with them."""
        among, gpus = self.engines + self.processes, self.vllm.gpus if self.vllm else 1
        return self._share(self.nodes, among, self.engine_memory, gpus)

    def _share(
        self, nodes: Sequence[Node], among: int, memory: int, gpus: int = 1
    ) -> TaskResources:
        """Share nodes out among processes of so many GPUs each, where they have GPUs."""
        usable = self._usable(nodes)
        if not usable:
            raise BadInput("hardware.cluster: expected nodes that run tasks, found none")
        most = min(node.cpus // node.gpus if self.gpu else node.cpus for node in usable)
        usual = os.environ.get("OMP_NUM_THREADS", "")
        most = min(most, int(usual)) if usual.isdigit() else most
        fair = sum(node.cpus for node in usable) // max(1, among)
        largest = max(node.memory for node in self.nodes)
        needed = min(memory + PROCESS_BYTES, largest)
        cpus = self.threads or max(1, min(most, fair))
        return TaskResources(cpus, gpus if self.gpu else 0, needed)

    def _usable(self, nodes: Sequence[Node]) -> list[Node]:
        return [node for node in nodes if node.cpus and (node.gpus or not self.gpu)]

    @cached_property
    def places(self) -> tuple[Node, ...]:
        """Return the node of each engine: the one with room for most, the last of equals.

        Raises:
            BadInput: there is no room for all of them and a task.
        """
        if not self.engines:
            return ()
        needs = self.engine_needs()
        room = [needs.slots(node) for node in self.nodes]
        places = []
        for _ in range(self.engines):
            best = max(range(len(room)), key=lambda k: (room[k], k))
            if not room[best]:
                break
            room[best] -= 1
            places.append(self.nodes[best])
        left = self._usable([_without(n, needs, places.count(n)) for n in self.nodes])
        task = self._share(left, self.processes, self.memory) if left else None
        room_left = sum(map(task.slots, left)) if task else 0
        if len(places) < self.engines or room_left < self.processes:
            found = "; ".join(map(str, self.nodes))
            raise BadInput(
                f"setting hardware.engines: expected a cluster with room for {self.engines} "
                f"engines ({needs} each) and a task{self._of_processes()}, found {found}"
            )
        return tuple(places)

    @cached_property
    def left(self) -> tuple[Node, ...]:
        """Return the nodes with what the engines leave of them."""
        if not self.engines:
            return tuple(self.nodes)
        needs = self.engine_needs()
        return tuple(_without(node, needs, self.places.count(node)) for node in self.nodes)

    def at_once(self, tasks: int) -> int:
        """Return how many of so many tasks run at once.

        Raises:
            BadInput: the nodes cannot run one.
        """
        needs = self.needs(tasks)
        total = self.slots(needs)
        if not total:
            found = "; ".join(map(str, self.nodes))
            if self.processes > 1:
                raise BadInput(
                    f"setting hardware.processes: expected nodes with room for {self.processes} "
                    f"processes ({needs} each) of a task, found {found}"
                )
            raise BadInput(
                f"hardware.cluster: expected a node with {needs} for a task, found {found}"
            )
        return min(total, tasks, self.most or total)

    def slots(self, needs: TaskResources, nodes: Sequence[Node] | None = None) -> int:
        """Return how many tasks of such processes nodes can run at once, apart from engines."""
        room = map(needs.slots, self.left if nodes is None else nodes)
        return sum(room) // self.processes

    def _of_processes(self) -> str:
        return f" of {self.processes} processes" if self.processes > 1 else ""

    def lines(self, tasks: int) -> Iterator[str]:
        """Yield the lines of a plan: how many tasks run at once, engines, and what is on each node.

        Args:
            tasks: number of tasks that can be done at the same time.
        """
        needs, limit = self.needs(tasks), f", at most {self.most}" if self.most else ""
        ready = "1 task" if tasks == 1 else f"up to {tasks} tasks"
        each = f"{self.processes} processes of {needs}" if self.processes > 1 else str(needs)
        yield f"{ready} ready at a time, {each} each: {self.at_once(tasks)} at once{limit}"
        what = "process" if self.processes > 1 else "task"
        if self.engines:
            own = self.engine_needs()
            kind = f" ({self.library})" if self.library else ""
            counted = f"{_counted(self.engines, 'engine')}{kind}"
            yield f"{counted} that sample and judge for them, {own} each"
        for node, left in zip(self.nodes, self.left, strict=True):
            count = self.places.count(node)
            engines = f"{_counted(count, 'engine')}, " if count else ""
            yield f"{node}; {engines}{_counted(needs.slots(left), what)} at once"


def _without(node: Node, needs: TaskResources, engines: int) -> Node:
    """Return what some engines leave of a node."""
    return replace(
        node,
        cpus=node.cpus - engines * needs.cpus,
        gpus=node.gpus - engines * needs.gpus,
        memory=node.memory - engines * needs.memory,
    )


def _counted(number: int, what: str) -> str:
    if number == 1:
        return f"1 {what}"
    return f"{number} {what}es" if what.endswith("s") else f"{number} {what}s"
