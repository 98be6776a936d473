"""Rollout: a checkpoint answers prompts, a feedback source scores it, and it learns (PPO, ...)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from alignlab import progress, seeds
from alignlab.configs import Bounded, PositiveInt
from alignlab.errors import BadInput
from alignlab.generation.local import LocalEngine
from alignlab.models.chat_template import encode_prompt, templated
from alignlab.models.load import LanguageModel, context_length, fingerprint
from alignlab.objectives.rollout_batch import PolicyGradient
from alignlab.protocols import FeedbackSource
from alignlab.stages import meter
from alignlab.stages.lab import Lab
from alignlab.stages.train import drop_checkpoints, shower, slug
from alignlab.training.config import SaveDtype
from alignlab.training.distributed import DistributedContext
from alignlab.training.environment import Environment, Sample, SampledGroup
from alignlab.training.ranks import run_on_all_ranks
from alignlab.training.rollout_config import RolloutConfig
from alignlab.training.token_groups import REFUSED
from alignlab.training.tracking import log_to, tracking
from alignlab.types import (
    Checkpoint,
    CompletionRequest,
    Count,
    Feedback,
    Prompt,
    Response,
    SampledBy,
    Sampling,
    Score,
    Unscored,
    Usage,
)

if TYPE_CHECKING:
    from alignlab.training.rollouts import RolloutResult
    from alignlab.training.trainer_state import OnStep, Validate


@dataclass(frozen=True)
class RolloutLesson(Bounded):
    """What is maximised, and how."""

    objective: PolicyGradient
    config: RolloutConfig
    max_prompt_tokens: PositiveInt = 1024
    """Longest prompt, in tokens; longer ones are left out and counted."""
    save_dtype: SaveDtype = "float32"
    """Type of the saved weights; float32 where further trainings start from them."""
    drop_bad: bool = False
    """Leave out prompts that the chat template refuses, and count them."""


@dataclass(frozen=True)
class RolledOut:
    """How a rollout training ended."""

    steps: int
    best_step: int | None
    """Step whose weights were kept by validation; None keeps the last."""
    best_value: float | None
    rollouts: int
    """Responses drawn."""
    unscored: int
    """Responses that were not learned from, for want of a score."""
    kl_coef: float
    """Last coefficient of the KL penalty."""
    plain_because: str | None
    """Why prompts were not shared among responses; None when they were."""


def rollout(
    lab: Lab,
    parent: Checkpoint,
    prompts: Sequence[Prompt],
    reward: FeedbackSource,
    lesson: RolloutLesson,
    *,
    name: str,
    validate: Callable[[LanguageModel], float] | None = None,
) -> Checkpoint:
    """Train a copy of the parent on its own answers to the prompts, scored as it goes.

    The stage's metrics.jsonl has a line per `log_every` steps: score, KL from the parent, ...

    Args:
        reward: scores the answers; what it leaves unscored is not learned from, and counted.
        name: what the study calls the new checkpoint; also the stage's name.
        validate: value of a model on validation prompts (see `select.mean_score`); the best
            checkpoint by it is kept.

    Raises:
        BadInput: no prompt is left, settings that the objective refuses, or a reward that gives
            something else than scores.
        RunFailed: the loss is not a number, or nothing could be scored.
    """
    config = lesson.config
    inputs = {"parent": parent.name, "prompts": str(len(prompts)), "reward": reward.name}
    with lab.run.stage(slug(name), config=lesson, inputs=inputs) as stage:
        if not stage.done:
            seed = seeds.derive(lab.seed_for("rollout", name), config.seed)
            lm = lab.student(parent, config)
            fitting = _fitting(lm, prompts, lesson)
            title, before = lab.title(f"{name} learns"), meter.mark()
            told = {"objective": repr(lesson.objective), **asdict(config)}
            with (
                tracking(lab.track, title, stage.path, told) as tracker,
                progress.task(title, 1) as bar,
            ):
                tell = None if tracker is None else log_to(tracker, config)
                here = {
                    "lm": lm,
                    "reward": reward,
                    "validate": validate,
                    "on_step": shower(bar, tell),
                }
                task = _Task(
                    lab,
                    parent,
                    lesson,
                    fitting.prompts,
                    replace(config, seed=seed),
                    stage.path,
                )
                result = run_on_all_ranks(
                    _learn, task, sharded=lab.hardware.sharded, device=lab.hardware.kind, here=here
                )
            trained = result.trained
            lost = {"without a score": result.unscored} if result.unscored else {}
            learned = result.rollouts - result.unscored
            stage.count([replace(fitting.tally, stage=stage.name),
                         Count(stage.name, "rollouts", learned, lost)])  # fmt: skip
            kept = RolledOut(
                trained.steps,
                trained.best_step,
                trained.best_value,
                result.rollouts,
                result.unscored,
                result.state.kl_coef,
                trained.plain_because,
            )
            stage.write("trained", RolledOut, [kept])
            drop_checkpoints(stage.path)
            own = Usage(tokens=trained.tokens + result.drawn, calls=result.rollouts)
            stage.spend(own + meter.since(before))
        folder = stage.path / "model"
        return Checkpoint(name, str(folder), parent.name, fingerprint=fingerprint(folder))


@dataclass(frozen=True)
class _Task:
    """A training as every process is told of it."""

    lab: Lab
    parent: Checkpoint
    lesson: RolloutLesson
    prompts: Sequence[Prompt]
    config: RolloutConfig
    out: Path


def _learn(
    world: DistributedContext,
    task: _Task,
    *,
    lm: LanguageModel | None = None,
    reward: FeedbackSource | None = None,
    validate: Validate | None = None,
    on_step: OnStep | None = None,
) -> RolloutResult:
    """Train, as one of the processes that do; those that follow load the student themselves."""
    # Importing the loop takes seconds, which commands that train nothing need not wait for.
    from alignlab.training.rollouts import train_rollouts
    from alignlab.training.trainer_state import TrainingCallbacks

    if lm is None:
        torch.set_num_threads(task.lab.threads)
        lm = task.lab.student(task.parent, task.config)
    return train_rollouts(
        lm,
        task.lesson.objective,
        task.prompts,
        task.config,
        task.out,
        environment=_environment(reward, task.config),
        hooks=TrainingCallbacks(validate, on_step),
        world=world,
        save_dtype=task.lesson.save_dtype,
    )


class _Fitting(NamedTuple):
    """Prompts that leave room for a response, and how many there were."""

    prompts: list[Prompt]
    tally: Count


def _fitting(lm: LanguageModel, prompts: Sequence[Prompt], lesson: RolloutLesson) -> _Fitting:
    room = min(lesson.max_prompt_tokens, context_length(lm) - lesson.config.max_tokens)
    kept: list[Prompt] = []
    lost: Counter[str] = Counter()
    for prompt in prompts:
        try:
            fits = 0 < len(encode_prompt(lm, prompt.messages)) <= room
            if (where := templated(lm, prompt.messages, ())) is not None:
                raise BadInput(f"{where}: expected plain text, found the chat template in it")
        except BadInput as error:
            if not lesson.drop_bad:
                raise BadInput(f"prompt {prompt.id}: {error}") from error
            lost[REFUSED] += 1
            continue
        if fits:
            kept.append(prompt)
        else:
            lost["prompt too long"] += 1
    if not kept:
        raise BadInput(
            f"train: no prompt is left to answer of {len(prompts)}: expected 1 to {room} tokens "
            "(max_prompt_tokens, and max_tokens less than the model's context)"
        )
    return _Fitting(kept, Count("", "prompts", len(kept), dict(lost)))


def _environment(reward: FeedbackSource | None, config: RolloutConfig) -> Environment:
    """The local generator and a feedback source, as rollout training asks for them."""
    sampling = Sampling(1.0, 1.0, config.max_tokens, config.responses)

    def sample(lm: LanguageModel, prompts: Sequence[Prompt], seed: int) -> list[SampledGroup]:
        requests = [CompletionRequest(p.id, p.messages, sampling, seed) for p in prompts]
        return [
            SampledGroup(
                prompt,
                several[0].prompt,
                tuple(Sample(d.text, d.tokens, d.finish == "stop") for d in several),
            )
            for prompt, several in zip(prompts, LocalEngine(lm).draw(requests), strict=True)
        ]

    if reward is None:
        return Environment(sample, None)

    def score(groups: Sequence[SampledGroup], seed: int) -> list[tuple[float | None, ...]]:
        rated = iter(reward.rate([(g.prompt, _responses(g, sampling, seed)) for g in groups], seed))
        return [tuple(_score(next(rated), reward.name) for _ in g.samples) for g in groups]

    return Environment(sample, score)


def _responses(group: SampledGroup, sampling: Sampling, seed: int) -> list[Response]:
    asked = group.prompt.id
    return [
        Response(
            id=f"{asked}/policy/{seed % 10**6}.{index}",
            prompt_id=asked,
            text=sample.text,
            sampler=SampledBy("policy", sampling, seed),
            tokens=len(sample.tokens),
            finish="stop" if sample.ended else "length",
        )
        for index, sample in enumerate(group.samples)
    ]


def _score(feedback: Feedback, source: str) -> float | None:
    verdict = feedback.verdict
    if isinstance(verdict, Unscored):
        return None
    if not isinstance(verdict, Score):
        raise BadInput(
            f"reward {source}: expected a score of each response, found "
            f"{type(verdict).__name__.lower()}"
        )
    return verdict.value
