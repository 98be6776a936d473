"""Run the studies of several seeds, and their branches, as tasks of a cluster."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignlab import parallel
from alignlab.cluster.tasks import Task, Tasks
from alignlab.context import RunContext
from alignlab.models.dtypes import by_default
from alignlab.parallel import Branch

StudyFunction = Callable[[RunContext, Any], Any]


@dataclass(frozen=True)
class Paused:
    """End of a study's task at its branches."""

    branches: tuple[tuple[str, bytes], ...] = field(repr=False)
    """Name and pickled work of each branch."""


@dataclass(frozen=True)
class Finished:
    """End of a study."""

    measured: Any
    opened: int
    """Number of stages that the study opened in its scope."""


class _BranchesWanted(BaseException):
    """Signal that a study has reached branches without results; no error, so nothing catches it."""

    def __init__(self, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.branches = branches


@dataclass
class _Seed:
    """State of one seed's study."""

    context: RunContext
    results: list[list[bytes]] = field(default_factory=list)
    """Results of each group of branches that is done."""
    group: list[bytes | None] = field(default_factory=list)
    """Results of the group under way."""
    finished: Finished | None = None


def run_studies(
    tasks: Tasks, study: StudyFunction, contexts: Sequence[RunContext], config: Any
) -> list[Any]:
    """Run a study in every context (one a seed) and return what each returned, in order.

    The scope of each context then numbers its next stage after the study's.
    """
    seeds = [_Seed(context) for context in contexts]

    def begin(number: int) -> Task:
        one = seeds[number]
        work = pickle.dumps((advance, (study, one.context, config, tuple(one.results))))
        return Task(one.context.title("study"), (number, None), work, len(seeds))

    def then(task: Task, result: bytes) -> Iterable[Task]:
        number, branch = task.key
        one = seeds[number]
        if branch is not None:
            one.group[branch] = result
            if (whole := [r for r in one.group if r is not None]) and len(whole) == len(one.group):
                one.results.append(whole)
                return [begin(number)]
            return []
        found = pickle.loads(result)
        if isinstance(found, Finished):
            one.finished = found
            return []
        one.group = [None] * len(found.branches)
        among = len(found.branches) * len(seeds)
        return [
            Task(one.context.title(name), (number, i), work, among)
            for i, (name, work) in enumerate(found.branches)
        ]

    tasks.run([begin(number) for number in range(len(seeds))], then)
    measured = []
    for one in seeds:
        assert one.finished is not None
        one.context.run.skip(one.finished.opened)
        measured.append(one.finished.measured)
    return measured


def advance(
    study: StudyFunction, context: RunContext, config: Any, results: Sequence[Sequence[bytes]]
) -> Paused | Finished:
    """Run a study up to the first branches whose results are not known yet, or to its end.

    Args:
        results: pickled results of each group of branches that is done, in order.
    """
    known = iter(results)

    def branches(several: Sequence[Branch]) -> list[Any]:
        if len(several) == 1:  # nothing runs next to it
            return [branch.function(*branch.arguments) for branch in several]
        if (done := next(known, None)) is not None:
            return [pickle.loads(result) for result in done]
        raise _BranchesWanted(several)

    hardware = context.hardware
    with by_default(hardware.device, hardware.dtype), parallel.elsewhere(branches):
        try:
            return Finished(study(context, config), context.run.opened)
        except _BranchesWanted as wanted:
            work = [(b.name, pickle.dumps((b.function, b.arguments))) for b in wanted.branches]
            return Paused(tuple(work))
