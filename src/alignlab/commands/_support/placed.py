"""Place a study: on the processes of this machine, or on the nodes of a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab.cluster.placement import Layout, Node, needs_gpu, this_node
from alignlab.cluster.session import Session, connected, is_elsewhere
from alignlab.cluster.studies import run_studies
from alignlab.cluster.tasks import Tasks
from alignlab.context import Hardware, RunContext
from alignlab.errors import BadInput
from alignlab.generation.vllm_process import library_text
from alignlab.generation.vllm_sampler import check_devices
from alignlab.plan import Memory, Plan
from alignlab.recipes.study import Recipe, StudyConfig
from alignlab.redo import events
from alignlab.runs import Run


@dataclass(frozen=True)
class Placed:
    """Where the seeds and branches of a study run, and what that came to."""

    nodes: tuple[Node, ...] = ()
    """Nodes of the cluster; none without one."""
    session: Session | None = None

    def run(
        self, recipe: Recipe, contexts: Sequence[RunContext], config: StudyConfig, plan: Plan
    ) -> tuple[list[Any], dict[str, Any]]:
        """Run a study in every context, one a seed.

        Returns:
            What each returned, and facts on the cluster for the manifest.
        """
        if self.session is None:
            return [recipe.study(context, config) for context in contexts], {}
        layout = layout_of(config.hardware, self.nodes, plan.memory)
        tasks = Tasks(self.session, contexts[0].run, layout)
        measured = run_studies(tasks, recipe.study, contexts, config)
        facts = {
            "nodes": [str(node) for node in self.nodes],
            "lost_attempts": lost_attempts(contexts[0].run),
            "engines": layout.engines,
            **({"engine": layout.library} if layout.library else {}),
            "processes": layout.processes,
            "peak_gigabytes": round(tasks.peak_gigabytes, 3),
        }
        return measured, facts


@contextmanager
def placed(config: StudyConfig) -> Iterator[Placed]:
    """Connect to the cluster of the settings, and check its nodes; without one, do nothing.

    Raises:
        BadInput: no cluster there, or a node that is not like this machine.
    """
    if not config.hardware.cluster:
        yield Placed()
        return
    with connected(config.hardware.cluster) as session:
        nodes = tuple(session.nodes())
        needs_gpu(config.hardware.device, nodes)
        session.refuse_others(nodes, nearest_folder(Path(config.out)))
        yield Placed(nodes, session)


@contextmanager
def planned(config: StudyConfig) -> Iterator[Placed]:
    """Return the nodes that a run would have, without starting Ray on this machine."""
    cluster = config.hardware.cluster
    if not cluster or is_elsewhere(cluster):
        with placed(config) as found:
            yield found
    else:
        yield Placed((this_node(),))


def layout_of(hardware: Hardware, nodes: Sequence[Node], memory: Sequence[Memory]) -> Layout:
    """Return the rules by which a study's tasks share the nodes.

    Args:
        memory: memory of processes by the plan; a task reserves the most of it, an engine the most
            of what does not train.
    """
    asks = [one for one in memory if not one.what.startswith("training")]
    vllm, gpu = hardware.vllm, needs_gpu(hardware.device, nodes)
    if vllm:
        check_devices(vllm, "cuda" if gpu else "cpu")
    return Layout(
        nodes,
        gpu,
        _bytes(memory),
        hardware.threads,
        hardware.workers,
        hardware.engines if hardware.pools else 0,
        _bytes(asks),
        hardware.processes,
        vllm,
        library_text(vllm.python) if vllm else "",
    )


def _bytes(memory: Sequence[Memory]) -> int:
    """Return the bytes of the largest process."""
    return int(1e9 * max((one.gigabytes for one in memory), default=0.0))


def lost_attempts(run: Run) -> int:
    """Return how many attempts of a run were lost with their workers, in all sessions.

    Attempts are those at tasks, and at chunks that engines had.
    """
    return sum(event.get("event") == "lost" for event in events(run.path))


def nearest_folder(out: Path) -> Path:
    """Return the nearest existing folder, which must be writable; create none.

    Raises:
        BadInput: it is a file, or cannot be written.
    """
    folder = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not folder.is_dir():
        raise BadInput(f"{folder}: expected a folder, found a file")
    if not os.access(folder, os.W_OK):
        raise BadInput(f"{folder}: expected a folder that can be written, found one that cannot")
    return folder
