"""Train a model on its own responses to prompts, scored by a feedback source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignlab.commands._support.job import part_of
from alignlab.commands._support.prompts_and_responses import prompts_of
from alignlab.commands._support.train_setup import (
    DataUsed,
    TrainSetup,
    build_objective,
    check_token_budget,
    choose,
    objective_class,
    open_training,
    refuse_idle,
)
from alignlab.commands._support.trained import NAME, TrainOutput, collect_result
from alignlab.configs import NonNegativeInt, PositiveInt
from alignlab.data.sources import load as load_data
from alignlab.errors import BadInput
from alignlab.feedback.specs import refuse_without_references
from alignlab.objectives.base import Objective
from alignlab.objectives.rollout_batch import PolicyGradient
from alignlab.specs import drops_bad
from alignlab.stages.checkpoint_selection import scores_by_prompt
from alignlab.stages.rollout import RolloutLesson
from alignlab.stages.rollout import rollout as rollout_stage
from alignlab.stages.rollout_engine import check_engine
from alignlab.stages.sample import SampleSettings
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Count, Prompt


@dataclass(frozen=True)
class RolloutSettings(TrainSetup, RolloutConfig):
    """Settings of a training on rollouts: setup, training loop and prompts."""

    objective: dict[str, Any] = field(default_factory=dict)
    """Options of the objective, e.g. objective.kl_coef=0.1."""
    max_prompt_tokens: PositiveInt = 1024
    """Maximum length of a prompt, in tokens; longer prompts are dropped and counted."""
    validation: NonNegativeInt = 0
    """Number of prompts, from the end of the data, for validation: the model with the best mean
    score on them, measured every `validate_every` steps, is saved. 0 saves the last model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.validation) != bool(self.validate_every):
            given, other = ("validation", "validate_every")[:: 1 if self.validation else -1]
            raise BadInput(f"setting {given}: expected {other} with it, found 0")


def rollout(
    objective: str | PolicyGradient | Objective,
    *overrides: str,
    model: str,
    data: str,
    reward: str,
    out: str | Path,
    config: str | Path | None = None,
    **settings: Any,
) -> TrainOutput:
    """Train a model by policy gradient, or resume the training (see `train`).

    Raises:
        BadInput: no reward, data without prompts, or settings without effect.
        RunFailed: the loss is not finite, or nothing could be scored.
    """
    if not reward:
        name = objective_class(objective).__name__
        raise BadInput(
            f"train: reward is missing: {name} learns from scores of the model's own responses "
            "(see `alignlab list feedback`)"
        )
    chosen, given = choose(RolloutSettings, config, overrides, settings)
    learned: PolicyGradient = build_objective(objective, chosen.objective)
    _refuse_idle(chosen, given)
    corpus = load_data(data)
    prompts, validation = _split(prompts_of(corpus), chosen.validation)
    refuse_without_references("train: reward", reward, prompts)
    tally = Count("data", "prompts", len(prompts) + len(validation))
    identity = {"model": model, "data": data, "reward": reward, "learns": repr(learned)}
    used = DataUsed(corpus, tally)
    with open_training(chosen, chosen.seed, out, identity, used) as (context, parent):
        source = context.judge(reward, parent)
        validate = None
        if validation:
            # As the policy is sampled in training.
            drawn = SampleSettings(n=1, temperature=1, top_p=1, max_tokens=chosen.max_tokens)
            validate = scores_by_prompt(context, source, validation, drawn)
        spec = RolloutLesson(
            learned,
            part_of(RolloutConfig, chosen),
            chosen.max_prompt_tokens,
            chosen.save_dtype,
            drops_bad(data),
        )
        trained = rollout_stage(
            context, parent, prompts, source, spec, name=NAME, validate=validate
        )
        context.run.finish()
        return collect_result(context.run, trained)


def _split(prompts: list[Prompt], validation: int) -> tuple[list[Prompt], list[Prompt]]:
    """Split prompts into those trained on and the last ones, for validation.

    Raises:
        BadInput: no prompt is left to train on.
    """
    if len(prompts) <= validation:
        raise BadInput(
            f"setting validation: expected fewer than the data's {len(prompts)} prompts, found "
            f"{validation}"
        )
    return prompts[: len(prompts) - validation], prompts[len(prompts) - validation :]


def _refuse_idle(chosen: RolloutSettings, given: Mapping[str, Any]) -> None:
    """Refuse settings that were set but have no effect, and an engine that is not there."""
    refuse_idle(chosen, given)
    check_engine(chosen)
    first_only = chosen.updates == chosen.minibatches == 1
    clips = [key for key in ("clip", "clip_high", "value_clip") if key in chosen.objective]
    if first_only and clips:
        raise BadInput(
            f"setting objective.{clips[0]}: has no effect with updates=1 and minibatches=1, where "
            "nothing has moved yet; leave it out"
        )
    check_token_budget("max_tokens", chosen.max_tokens, chosen.token_budget)
