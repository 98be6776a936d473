"""Run the branches of a study, and delete their weights where nobody keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from alignlab.measuring.measure import BranchResult
from alignlab.parallel import Branch, run_branches
from alignlab.recipes.study import Study, StudyConfig
from alignlab.released import release_weights
from alignlab.types import Checkpoint


def run_all(
    study: Study[StudyConfig], branches: Sequence[Branch], *, used_later: bool = False
) -> list[BranchResult]:
    """Run branches on the processes of the study, and return their results in order.

    Args:
        branches: functions whose first argument is the study in a scope of its own.
        used_later: later branches load these branches' models, which `keep_weights=false` keeps
            until the end.
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
    return run_branches(branches, context.workers, context.threads_of(len(branches)))


def _then_release(
    function: Callable[..., BranchResult], study: Study[StudyConfig], *rest: Any
) -> BranchResult:
    """Run a branch, and delete the weights in its scope."""
    result = function(study, *rest)
    release_weights(study.context.run.stages_folder)
    return result
