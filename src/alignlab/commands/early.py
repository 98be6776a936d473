"""Errors that can be told before the work: parts named in the settings that cannot be made.

A key that is missing or a judge that does not exist must not be found out after hours of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignlab.errors import BadInput
from alignlab.feedback import specs as feedback_specs
from alignlab.generation import engines
from alignlab.generation.vllm import require_vllm
from alignlab.models.facts import model_facts
from alignlab.models.quant import require_bitsandbytes
from alignlab.protocols import Completer
from alignlab.recipes.rounds import Round
from alignlab.recipes.study import Recipe, StudyConfig
from alignlab.specs import split
from alignlab.stages.judges import model_judge, sampled_judge
from alignlab.stages.lab import resolve_model
from alignlab.types import Completion, CompletionRequest


def make_parts(recipe: Recipe, config: StudyConfig) -> tuple[Round, ...]:
    """Make every teacher, critic, judge and the objective once, and load no model.

    Packages that the settings need are looked for.

    Returns:
        The recipe's rounds, whose parts can all be made.

    Raises:
        BadInput: one of them cannot be made as the settings name it.
    """
    config.objective.build()
    for training in (config.sft, config.preference):
        if training.quant != "none":
            require_bitsandbytes(training.quant)
    rounds = recipe.rounds(config)
    sampled_judge(_Absent("M0"), config.judge)
    if config.propose.by:
        completer(config.propose.by)
    for each in rounds:
        if each.teacher:
            completer(each.teacher)
        if each.critic:
            critic = completer(each.critic)
            if each.judging is not None:
                model_judge(critic, each.judging)
        if each.source:
            feedback_specs.judge(each.source, make_completer=completer)
    for spec in (config.measure.judge, config.measure.truth):
        if spec:
            feedback_specs.judge(spec, make_completer=completer)
    if config.measure.pair_judge:
        feedback_specs.pair_judge(config.measure.pair_judge, make_completer=completer)
    return rounds


def completer(spec: str) -> Completer:
    """The engine that a spec names; of a local one its files are looked at, no weights are read."""
    if spec == "self":
        return _Absent("self")
    kind, _, rest = spec.partition(":")
    if kind in ("local", "vllm") and rest:
        if kind == "vllm":
            require_vllm()
        folder = split(rest).head
        model_facts(resolve_model(folder).path)
        return _Absent(folder)
    return engines.completer(spec)


class _Absent:
    """Stands for a local model, which can complete and score; it is asked nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        raise BadInput(f"{self.name}: expected a model that is loaded, found its name alone")

    def choice_logprobs(self, requests: Sequence[CompletionRequest], choices: Sequence[str]) -> Any:
        raise BadInput(f"{self.name}: expected a model that is loaded, found its name alone")
