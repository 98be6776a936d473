"""Train a checkpoint on its own responses, scored during training (PPO, RLOO, ...)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from alignlab import meter, seeds
from alignlab.configs import Bounded, PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.generation.local import LocalEngine
from alignlab.models.chat_template import encode_prompt, templated
from alignlab.models.load import LanguageModel, context_length, fingerprint
from alignlab.objectives.rollout_batch import PolicyGradient
from alignlab.protocols import FeedbackSource
from alignlab.runs import Stage, slug
from alignlab.stages.rollout_engine import as_sample, check_engine, serving
from alignlab.stages.sample import THOUGHTS
from alignlab.stages.train import (
    TrainingTask,
    drop_checkpoints,
    lost_checkpoints,
    train_on_all_ranks,
)
from alignlab.training.config import SaveDtype
from alignlab.training.distributed import DistributedContext
from alignlab.training.environment import Environment, Reward, Sample, SampledGroup
from alignlab.training.rollout_checks import refuse_unfit
from alignlab.training.rollout_config import RolloutConfig
from alignlab.training.step_rewards import place_steps
from alignlab.training.token_groups import REFUSED
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
from alignlab.work import Trained

if TYPE_CHECKING:
    from alignlab.training.rollouts import RolloutResult
    from alignlab.training.trainer_state import OnStep, Validate

THOUGHTS_ALONE = "thoughts without an answer"


@dataclass(frozen=True)
class RolloutLesson(Bounded):
    """Objective, loop and limits of a training on rollouts."""

    objective: PolicyGradient
    config: RolloutConfig
    max_prompt_tokens: PositiveInt = 1024
    """Maximum length of a prompt, in tokens; longer prompts are dropped and counted."""
    save_dtype: SaveDtype = "float32"
    """Type of the saved weights; float32 if later trainings start from them."""
    drop_bad: bool = False
    """Drop prompts that the chat template refuses, and count them."""


@dataclass(frozen=True)
class RolledOut:
    """Result of a training on rollouts."""

    steps: int
    best_step: int | None
    """Step of the saved weights, selected by validation; None if the last step is saved."""
    best_value: float | None
    rollouts: int
    """Number of responses generated."""
    unscored: int
    """Number of responses without a score, which were not trained on."""
    kl_coef: float
    """Final coefficient of the KL penalty."""
    plain_because: str | None
    """Reason for padded batches; None if the responses to a prompt shared its computation."""
    thoughts: int = 0
    """Number of responses that held reasoning, which was not scored."""
    thoughts_alone: int = 0
    """Number of these without an answer, such as reasoning that was cut off."""
    dtype: str = ""
    """Type of the forward and backward passes; empty in records of earlier versions."""


def rollout(
    context: RunContext,
    parent: Checkpoint,
    prompts: Sequence[Prompt],
    reward: FeedbackSource,
    lesson: RolloutLesson,
    *,
    name: str,
    made: str = "",
    validate: Validate | None = None,
) -> Checkpoint:
    """Train a copy of the parent on its own responses to the prompts, scored during training.

    The stage's metrics.jsonl has a line per `log_every` steps: score, KL from the parent, ...

    Args:
        reward: scores the responses; unscored ones are not trained on, and counted.
        name: name of the new checkpoint and of the stage.
        made: one line for the report on the checkpoint's making.
        validate: a model's scores (see `checkpoint_selection.scores_by_prompt`); the best
            checkpoint is saved.

    Raises:
        BadInput: no prompt is left, settings that the objective refuses, or a reward whose verdicts
            are no scores.
        RunFailed: the loss is not a number, or nothing could be scored.
    """
    config = lesson.config
    check_engine(config)
    if context.recorder:
        refuse_unfit(lesson.objective, config)
        return _planned(context, parent, prompts, reward, (config, name, made, validate))
    inputs = {"parent": parent.name, "prompts": str(len(prompts)), "reward": reward.name}
    with context.run.stage(slug(name), config=lesson, inputs=inputs) as stage:
        if not stage.done:
            seed = rollout_seed(context, name, config)
            lm = context.student(parent, config)
            fitting = _fitting(lm, prompts, lesson)
            before = meter.mark()
            here = {"lm": lm, "reward": reward, "validate": validate}
            task = TrainingTask(
                context, parent, lesson, fitting.prompts, replace(config, seed=seed), stage.path
            )
            result = train_on_all_ranks(_learn, task, context.title(f"{name} learns"), here)
            _write(stage, fitting.tally, result)
            drawn = Usage(tokens=result.trained.tokens + result.drawn, calls=result.rollouts)
            stage.spend(drawn + meter.since(before))
        folder = stage.path / "model"
        return Checkpoint(name, str(folder), parent.name, None, fingerprint(folder), made)


def _write(stage: Stage, prompts: Count, result: RolloutResult) -> None:
    """Write the counts and the summary of a training on rollouts."""
    left_out = {"without a score": result.unscored, "of equal scores, replaced": result.replaced}
    lost = {reason: number for reason, number in left_out.items() if number}
    thoughts = {THOUGHTS: result.thoughts, THOUGHTS_ALONE: result.thoughts_alone}
    changed = {kind: number for kind, number in thoughts.items() if number}
    kept = result.rollouts - sum(lost.values())
    scored = Count(stage.name, "rollouts", kept, lost, changed)
    trained = result.trained
    found = [replace(prompts, stage=stage.name), scored, *lost_checkpoints(stage, trained)]
    stage.count(found)
    summary = RolledOut(
        trained.steps,
        trained.best_step,
        trained.best_value,
        result.rollouts,
        result.unscored,
        result.state.kl_coef,
        trained.padded_because,
        result.thoughts,
        result.thoughts_alone,
        trained.dtype,
    )
    stage.write("trained", RolledOut, [summary])
    drop_checkpoints(stage.path)


def _planned(
    context: RunContext,
    parent: Checkpoint,
    prompts: Sequence[Prompt],
    reward: FeedbackSource,
    called: tuple[RolloutConfig, str, str, Validate | None],
) -> Checkpoint:
    """Record the rollouts, their rewards and the training in the plan of a study."""
    (config, name, made, validate), recorder = called, context.recorder
    assert recorder is not None
    per_epoch = math.ceil(len(prompts) / config.batch_size)
    steps = config.steps or per_epoch * config.epochs
    batch = prompts[: config.batch_size]
    with context.run.stage(slug(name)) as stage:
        with recorder.asking("rewards", steps * (1 + config.refills)):
            rollouts = recorder.sample_policy(parent, batch, config.responses, config.max_tokens)
            recorder.rate(reward, rollouts, 0)
        if validate is not None:
            with recorder.asking("answers", steps // config.validate_every):
                validate(cast(LanguageModel, parent))
    drawn = sum(recorder.tokens(r.text) for _, several in rollouts for r in several)
    read = sum(map(recorder.tokens_of, batch)) + drawn
    checkpoint = Checkpoint(name, parent.path, parent.name, made=made)
    # The policy's and the reference's log-probabilities of what was drawn are computed apart.
    updates = steps * config.updates
    group = read // max(1, len(batch))
    tokens = config.updates * steps * read
    size = Trained(tokens, 2 * steps * read, updates, config, read, group)
    return recorder.train(stage.name, parent, checkpoint, size)


def _learn(
    world: DistributedContext,
    task: TrainingTask,
    *,
    lm: LanguageModel | None = None,
    reward: FeedbackSource | None = None,
    validate: Validate | None = None,
    on_step: OnStep | None = None,
) -> RolloutResult:
    # Importing the loop takes seconds, which commands that train nothing need not wait for.
    from alignlab.training.rollouts import train_rollouts
    from alignlab.training.trainer_state import TrainingCallbacks

    config, student = cast(RolloutConfig, task.config), task.student(lm)
    environment = _environment(reward, config, student)
    with serving(student, task.lesson, config, task.out, world) as engine:
        return train_rollouts(
            student,
            task.lesson.objective,
            task.items,
            config,
            task.out,
            environment=replace(environment, engine=engine),
            hooks=TrainingCallbacks(validate, on_step),
            world=world,
            save_dtype=task.save_dtype,
        )


class _Fitting(NamedTuple):
    """Prompts that leave room for a response, and the number of all prompts."""

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


def _environment(
    reward: FeedbackSource | None, config: RolloutConfig, student: LanguageModel
) -> Environment:
    """Build the rollout environment from the local generator and a feedback source."""
    sampling = Sampling(1.0, 1.0, config.max_tokens, config.responses)

    def sample(lm: LanguageModel, prompts: Sequence[Prompt], seed: int) -> list[SampledGroup]:
        requests = [CompletionRequest(p.id, p.messages, sampling, seed) for p in prompts]
        return [
            SampledGroup(
                prompt,
                several[0].prompt,
                tuple(
                    as_sample(d.text, d.tokens, d.logprobs, ended=d.finish == "stop")
                    for d in several
                ),
            )
            for prompt, several in zip(prompts, LocalEngine(lm).draw(requests), strict=True)
        ]

    if reward is None:
        return Environment(sample, None)

    def decode(tokens: Sequence[int]) -> str:
        text: str = student.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def score(groups: Sequence[SampledGroup], seed: int) -> list[tuple[Reward, ...]]:
        rated = iter(reward.rate([(g.prompt, _responses(g, sampling, seed)) for g in groups], seed))
        return [
            tuple(_reward(next(rated), reward.name, sample, decode) for sample in g.samples)
            for g in groups
        ]

    return Environment(sample, score)


def rollout_seed(context: RunContext, name: str, config: RolloutConfig) -> int:
    """Return the seed of a rollout training, from which those of its draws and rewards derive."""
    return seeds.derive(context.seed_for("rollout", name), config.seed)


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


def _reward(
    feedback: Feedback, source: str, sample: Sample, decode: Callable[[Sequence[int]], str]
) -> Reward:
    """Return a response's score, or its rewards by token; None if it has none."""
    verdict = feedback.verdict
    if isinstance(verdict, Unscored):
        return None
    if not isinstance(verdict, Score):
        raise BadInput(
            f"reward {source}: expected a score of each response, found "
            f"{type(verdict).__name__.lower()}"
        )
    if feedback.steps is None:
        return verdict.value
    steps = [(step.end, step.value) for step in feedback.steps]
    return place_steps(decode, sample.tokens, sample.text, steps)
