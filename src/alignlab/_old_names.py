"""Import modules of 0.1 by their old paths; to be removed with 0.3."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "alignlab.commands.preflight": "alignlab.commands.preflight",
    "alignlab.recipes.compare": "alignlab.recipes.compare_feedback",
    "alignlab.recipes.rl_free": "alignlab.recipes.compare_objectives",
    "alignlab.recipes.rl_free_methods": "alignlab.recipes.objective_branches",
    "alignlab.stages.sample": "alignlab.stages.sample",
    "alignlab.measuring.judge_audit": "alignlab.measuring.judge_audit",
    "alignlab.measuring.entrants": "alignlab.measuring.entrants",
    "alignlab.measuring.divergence": "alignlab.measuring.divergence",
    "alignlab.measuring.overoptimization": "alignlab.measuring.overoptimization",
    "alignlab.measuring.evaluate": "alignlab.measuring.evaluate",
    "alignlab.measuring.held_out": "alignlab.measuring.held_out",
    "alignlab.measuring.cached": "alignlab.measuring.cached",
    "alignlab.context": "alignlab.context",
    "alignlab.limits": "alignlab.limits",
    "alignlab.measuring.measure": "alignlab.measuring.measure",
    "alignlab.meter": "alignlab.meter",
    "alignlab.measuring.paired": "alignlab.measuring.paired",
    "alignlab.measuring.prompt_values": "alignlab.measuring.prompt_values",
    "alignlab.measuring.results": "alignlab.measuring.results",
    "alignlab.measuring.scaling_fit": "alignlab.measuring.scaling_fit",
    "alignlab.stages.checkpoint_selection": "alignlab.stages.checkpoint_selection",
    "alignlab.stages.few_shot": "alignlab.stages.few_shot",
    "alignlab.measuring.alignment_tax": "alignlab.measuring.alignment_tax",
}
"""Old path of a module -> its path today."""

RENAMED = {
    "Lab": "RunContext",
    "Field": "Entrants",
    "Contestant": "Entrant",
    "contestant": "entrant",
    "KeptModel": "CachedModel",
    "KeptPairs": "CachedPairs",
    "KeptScorer": "CachedScorer",
    "KeptScores": "CachedScores",
    "Material": "ProposalContext",
    "Measured": "StudyMeasurements",
    "Values": "PerPromptMetric",
    "Scale": "SweepAxis",
}
"""Old name within a module -> its name today."""


class _Finder(MetaPathFinder, Loader):
    """Find a moved module by its old path and return the module itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(MOVED[spec.name])
        # Importing overwrites the spec, which `exec_module` puts back.
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own
        for old, new in RENAMED.items():
            if hasattr(module, new) and not hasattr(module, old):
                setattr(module, old, getattr(module, new))


if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.append(_Finder())
