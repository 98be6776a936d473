"""Run the branches of a study, and delete their weights where nobody keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from alignlab import progress
from alignlab.errors import NothingToLearn
from alignlab.measuring.measure import BranchResult
from alignlab.parallel import Branch, run_branches
from alignlab.recipes.study import Study, StudyConfig
from alignlab.released import release_weights
from alignlab.types import Checkpoint


def run_all(
    study: Study[StudyConfig],
    branches: Sequence[Branch],
    *,
    used_later: bool = False,
    needed: bool = False,
) -> list[BranchResult]:
    """Run branches on the processes of the study, and return their results in order.

    A branch with nothing to train on is left out: its result holds the reason alone.

    Args:
        branches: functions whose first argument is the study in a scope of its own.
        used_later: later branches load these branches' models, which `keep_weights=false` keeps
            until the end, and which all have to be there.
        needed: the study means nothing without every branch.

    Raises:
        NothingToLearn: no branch had anything to train on, or one that has to be there.
    """
    context = study.context
    releases = not (study.config.keep_weights or used_later)
    if recorder := context.recorder:
        recorder.branches.append([branch.name for branch in branches])
        results, begun = [], len(recorder.trained)
        kept: list[list[Checkpoint]] = []
        for branch in branches:
            with recorder.in_branch(len(recorder.branches), branch.name):
                results.append(branch.function(*branch.arguments))
            if releases:
                kept.append(recorder.trained[begun:])
                del recorder.trained[begun:]
        for some in sorted(kept, key=len)[-context.workers :]:  # on the disk at one time
            recorder.trained += some
        return results
    if releases:
        branches = [replace(b, function=partial(_then_release, b.function)) for b in branches]
    if not (used_later or needed):
        branches = [replace(b, function=partial(or_left_out, b.name, b.function)) for b in branches]
    results = run_branches(branches, context.workers, context.threads_of(len(branches)))
    if results and all(result.left_out for result in results):
        raise NothingToLearn(next(iter(results[0].left_out.values())))
    return results


def or_left_out(
    name: str, function: Callable[..., BranchResult], study: Study[StudyConfig], *rest: Any
) -> BranchResult:
    """Run a branch; return the reason alone if it has nothing to train on.

    Raises:
        NothingToLearn: so say the settings already, while the study is planned.
    """
    try:
        return function(study, *rest)
    except NothingToLearn as error:
        if study.context.recorder:
            raise
        progress.say(f"{name} is left out: {error}")
        return BranchResult(left_out={name: str(error)})


def _then_release(
    function: Callable[..., BranchResult], study: Study[StudyConfig], *rest: Any
) -> BranchResult:
    """Run a branch, and delete the weights in its scope."""
    result = function(study, *rest)
    release_weights(study.context.run.stages_folder)
    return result
