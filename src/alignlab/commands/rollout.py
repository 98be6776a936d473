"""Train a model on its own responses to prompts, scored by a feedback source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignlab.commands._support.prompts_and_responses import prompts_of
from alignlab.commands._support.train_setup import (
    Surroundings,
    choose,
    drops_bad,
    laboratory,
    loop_of,
    made_objective,
    objective_class,
    parent_of,
    refuse_idle,
)
from alignlab.commands._support.trained import NAME, Trained, left_by
from alignlab.configs import NonNegativeInt, PositiveInt
from alignlab.data.sources import load as load_data
from alignlab.errors import BadInput
from alignlab.objectives.base import Objective
from alignlab.objectives.rollout_batch import PolicyGradient
from alignlab.stages.checkpoint_selection import mean_score
from alignlab.stages.rollout import RolloutLesson
from alignlab.stages.rollout import rollout as rollout_stage
from alignlab.stages.sample import SampleSettings
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Count


@dataclass(frozen=True)
class RolloutSettings(Surroundings, RolloutConfig):
    """Settings of a training on rollouts, in addition to those of the loop."""

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
) -> Trained:
    """Train a model by policy gradient, or resume the training (see `train`).

    Raises:
        BadInput: no reward, data without prompts, or settings without effect.
        RunFailed: the loss is not finite, or nothing could be scored.
    """
    if not reward:
        name = objective_class(objective).__name__
        raise BadInput(
            f"train: --reward is missing: {name} learns from scores of the model's own responses "
            "(see `alignlab list feedback`)"
        )
    chosen, given = choose(RolloutSettings, config, overrides, settings)
    made: PolicyGradient = made_objective(objective, chosen.objective)
    _refuse_idle(chosen, given)
    corpus = load_data(data)
    prompts = prompts_of(corpus)
    if len(prompts) <= chosen.validation:
        raise BadInput(
            f"setting validation: expected fewer than the data's {len(prompts)} prompts, found "
            f"{chosen.validation}"
        )
    learned = prompts[: len(prompts) - chosen.validation]
    identity = {"model": model, "data": data, "reward": reward, "learns": repr(made)}
    with laboratory(chosen, chosen.seed, out, identity) as lab:
        run = lab.run
        run.add_inputs(corpus.files)
        with run.stage("data", inputs={"data": data}) as stage:
            stage.count([*corpus.counts, Count("data", "prompts", len(prompts))])
        parent = parent_of(lab, model, chosen.adapter)
        source = lab.judge(reward, parent)
        validate = None
        if chosen.validation:
            # As the policy is sampled in training.
            drawn = SampleSettings(n=1, temperature=1, top_p=1, max_tokens=chosen.max_tokens)
            validate = mean_score(lab, source, prompts[len(learned) :], drawn)
        lesson = RolloutLesson(
            made,
            loop_of(RolloutConfig, chosen),
            chosen.max_prompt_tokens,
            chosen.save_dtype,
            drops_bad(data),
        )
        trained = rollout_stage(lab, parent, learned, source, lesson, name=NAME, validate=validate)
        run.finish()
        return left_by(run, trained)


def _refuse_idle(chosen: RolloutSettings, given: Mapping[str, Any]) -> None:
    """Refuse settings that were set but have no effect."""
    refuse_idle(
        given,
        (
            ("min_lr_ratio", chosen.schedule == "constant", "with schedule=constant"),
            ("keep_checkpoints", not chosen.save_every, "with save_every=0"),
        ),
    )
    first_only = chosen.updates == chosen.minibatches == 1
    clips = [key for key in ("clip", "clip_high", "value_clip") if key in chosen.objective]
    if first_only and clips:
        raise BadInput(
            f"setting objective.{clips[0]}: has no effect with updates=1 and minibatches=1, where "
            "nothing has moved yet; leave it out"
        )
    if chosen.max_tokens > chosen.token_budget:
        raise BadInput(
            f"setting max_tokens: expected at most token_budget ({chosen.token_budget}), found "
            f"{chosen.max_tokens}: a response would be longer than the budget of a pass"
        )
