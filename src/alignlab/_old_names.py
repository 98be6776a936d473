"""Import modules of 0.1 by their old paths; removed in 0.3."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "alignlab.commands.early": "alignlab.commands.preflight",
    "alignlab.commands.material": "alignlab.commands._support.prompts_and_responses",
    "alignlab.commands.run_answers": "alignlab.commands._support.responses_from_run",
    "alignlab.commands.surroundings": "alignlab.commands._support.train_setup",
    "alignlab.commands.tables": "alignlab.commands._support.tables",
    "alignlab.commands.to_file": "alignlab.commands._support.file_job",
    "alignlab.commands.trained": "alignlab.commands._support.trained",
    "alignlab.recipes.compare": "alignlab.recipes.compare_feedback",
    "alignlab.recipes.rl_free": "alignlab.recipes.compare_objectives",
    "alignlab.recipes.rl_free_methods": "alignlab.recipes.objective_branches",
    "alignlab.stages.answer": "alignlab.stages.sample",
    "alignlab.stages.audit": "alignlab.measuring.judge_audit",
    "alignlab.stages.contestants": "alignlab.measuring.entrants",
    "alignlab.stages.divergence": "alignlab.measuring.divergence",
    "alignlab.stages.drift": "alignlab.measuring.overoptimization",
    "alignlab.stages.evaluate": "alignlab.measuring.evaluate",
    "alignlab.stages.held_out": "alignlab.measuring.held_out",
    "alignlab.stages.kept": "alignlab.measuring.cached",
    "alignlab.stages.lab": "alignlab.context",
    "alignlab.stages.measure": "alignlab.measuring.measure",
    "alignlab.stages.meter": "alignlab.meter",
    "alignlab.stages.paired": "alignlab.measuring.paired",
    "alignlab.stages.prompt_values": "alignlab.measuring.prompt_values",
    "alignlab.stages.results": "alignlab.measuring.results",
    "alignlab.stages.scaling": "alignlab.measuring.scaling_fit",
    "alignlab.stages.select": "alignlab.stages.checkpoint_selection",
    "alignlab.stages.shots": "alignlab.stages.few_shot",
    "alignlab.stages.tax": "alignlab.measuring.alignment_tax",
    "alignlab.data.chat": "alignlab.data.conversations",
    "alignlab.data.commented": "alignlab.data.prompt_completion",
    "alignlab.data.prompts": "alignlab.data.prompt_completion",
    "alignlab.data.unpaired": "alignlab.data.prompt_completion",
    "alignlab.data.compared": "alignlab.data.judged_pairs",
    "alignlab.data.gathered": "alignlab.data.group_rows",
    "alignlab.data.made": "alignlab.data.build_records",
    "alignlab.data.sift": "alignlab.data.split_dedupe",
    "alignlab.data.specs": "alignlab.data.sources",
    "alignlab.evaluation.rows": "alignlab.evaluation.result_rows",
    "alignlab.feedback.by_pairs": "alignlab.feedback.conversion",
    "alignlab.feedback.by_score": "alignlab.feedback.conversion",
    "alignlab.feedback.critique": "alignlab.feedback.model_judge",
    "alignlab.feedback.implicit_reward": "alignlab.feedback.reward_model",
    "alignlab.feedback.instruct": "alignlab.feedback.teachers",
    "alignlab.feedback.llm_judge": "alignlab.feedback.model_judge",
    "alignlab.feedback.refine": "alignlab.feedback.teachers",
    "alignlab.feedback.relevance_tfidf": "alignlab.feedback.relevance",
    "alignlab.generation.continuations": "alignlab.generation.choices",
    "alignlab.generation.plain": "alignlab.generation.forward",
    "alignlab.generation.requests": "alignlab.generation.engines",
    "alignlab.generation.specs": "alignlab.generation.engines",
    "alignlab.models.chat": "alignlab.models.chat_template",
    "alignlab.objectives.rollouts": "alignlab.objectives.rollout_batch",
    "alignlab.report.answer": "alignlab.report.headline",
    "alignlab.report.compare": "alignlab.report.run_comparison",
    "alignlab.report.drift": "alignlab.report.overoptimization_plot",
    "alignlab.report.growth": "alignlab.report.scaling_plot",
    "alignlab.report.load": "alignlab.report.run_data",
    "alignlab.report.plane": "alignlab.report.line_chart",
    "alignlab.report.process": "alignlab.report.training_curves",
    "alignlab.report.reward": "alignlab.report.calibration_plot",
    "alignlab.report.tax": "alignlab.report.tax_table",
    "alignlab.sandbox.data": "alignlab.sandbox.corpus",
    "alignlab.sandbox.prompts": "alignlab.sandbox.questions",
    "alignlab.training.course": "alignlab.training.trainer_state",
    "alignlab.training.data": "alignlab.training.token_groups",
    "alignlab.training.experience": "alignlab.training.rollout_records",
    "alignlab.training.records": "alignlab.training.record_kinds",
    "alignlab.training.reference": "alignlab.training.reference_logps",
    "alignlab.training.team": "alignlab.training.ranks",
    "alignlab.data.llmbar": "alignlab.data.judged_pairs",
    "alignlab.data.autoj": "alignlab.data.judged_pairs",
    "alignlab.data.pandalm": "alignlab.data.judged_pairs",
    "alignlab.data.alpacaeval_listwise": "alignlab.data.alpacaeval",
    "alignlab.evaluation.token_preferences": "alignlab.evaluation.annotation_files",
    "alignlab.evaluation.benchmarks.head_to_head": "alignlab.evaluation.win_rate_rows",
    "alignlab.evaluation.benchmarks.reward_modelling": "alignlab.evaluation.judge_rows",
    "alignlab.evaluation.benchmarks.text_stats": "alignlab.evaluation.text_rows",
    "alignlab.evaluation.benchmarks.score": "alignlab.evaluation.task_rows",
}
"""Old path of a module -> new path."""

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
"""Old name within a module -> new name."""


class _Finder(MetaPathFinder, Loader):
    """Importer that maps an old path to the module of today."""

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
