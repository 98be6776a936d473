"""Train a checkpoint on records by an objective."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from alignlab import progress, seeds
from alignlab.context import RunContext
from alignlab.leases import is_claimed
from alignlab.models.load import LanguageModel, fingerprint
from alignlab.objectives.base import GroupRewards, Objective, input_of
from alignlab.objectives.distill import Distill
from alignlab.objectives.reward_conditioned import RewardConditioned
from alignlab.recording import Recorder
from alignlab.runs import Stage, slug
from alignlab.training.config import LengthSettings, SaveAs, SaveDtype, TrainConfig
from alignlab.training.distributed import DistributedContext
from alignlab.training.ranks import run_on_all_ranks
from alignlab.training.record_kinds import Record, prepare_for, reward_bins
from alignlab.training.tracking import LogMetrics, log_to, tracking
from alignlab.types import Checkpoint, Count, PreferenceGroup, Usage
from alignlab.work import Trained, largest_step

if TYPE_CHECKING:
    from alignlab.training.trainer_state import TrainResult, Validate

T = TypeVar("T")

EXAMPLES = 64
"""Records of the first training that a plan keeps to measure the model on."""


@dataclass(frozen=True)
class TrainSpec:
    """Objective and settings of a training."""

    objective: Objective
    config: TrainConfig
    lengths: LengthSettings
    drop_bad: bool = False
    """Drop records that the chat template refuses or that are templated already, and count them."""
    save_dtype: SaveDtype = "float32"
    """Type of the saved weights; float32 if later trainings start from them."""


@dataclass(frozen=True)
class TrainingSummary:
    """Outcome of a training."""

    steps: int
    best_step: int | None
    """Step of the saved weights, selected by validation; None if the last step is saved."""
    best_value: float | None
    plain_because: str | None
    """Reason for padded batches; None if the responses to a prompt shared its computation."""
    dtype: str = ""
    """Type of the forward and backward passes; empty in records of earlier versions."""


def train(
    context: RunContext,
    parent: Checkpoint,
    records: Sequence[Record],
    lesson: TrainSpec,
    *,
    name: str,
    made: str = "",
    validate: Validate | None = None,
) -> Checkpoint:
    """Train a copy of the parent on the records; save it in Hugging Face format.

    Args:
        name: name of the new checkpoint and of the stage.
        made: one line for the report on the checkpoint's making.
        validate: value of a model on validation data; the best checkpoint is saved.

    Raises:
        BadInput: no record is left to train on, or settings that the objective refuses.
        RunFailed: the loss is not a number; the batch is saved in the stage's folder.
    """
    config, lengths = lesson.config, lesson.lengths
    if context.recorder:
        return _planned(context, parent, records, lesson, (name, made, validate))
    inputs = {"parent": parent.name, "records": str(len(records))}
    with context.run.stage(slug(name), config=lesson, inputs=inputs) as stage:
        if not stage.done:
            seed = seeds.derive(context.seed_for("train", name), config.seed)
            objective = lesson.objective
            lm = context.student(parent, config, rewards=learns_rewards(objective))
            groups, count = prepare_for(
                lm, objective, records, seed=seed, drop_bad=lesson.drop_bad, **asdict(lengths)
            )
            stage.count([replace(count, stage=stage.name)])
            title = context.title(f"{name} learns")
            task = TrainingTask(
                context, parent, lesson, groups, replace(config, seed=seed), stage.path
            )
            result = train_on_all_ranks(_learn, task, title, {"lm": lm, "validate": validate})
            if isinstance(objective, RewardConditioned):
                reward_bins(objective, records).save(stage.path / "model")
            stage.count_further("checkpoints", lost_checkpoints(stage, result))
            best = result.best_step, result.best_value
            summary = TrainingSummary(result.steps, *best, result.padded_because, result.dtype)
            stage.write("trained", TrainingSummary, [summary])
            drop_checkpoints(stage.path)
            stage.spend(Usage(tokens=result.tokens))
        folder = stage.path / "model"
        return Checkpoint(name, str(folder), parent.name, None, fingerprint(folder), made)


def _planned(
    context: RunContext,
    parent: Checkpoint,
    records: Sequence[Record],
    lesson: TrainSpec,
    called: tuple[str, str, Validate | None],
) -> Checkpoint:
    """Record a training, with its validations, in the plan of a study."""
    (name, made, validate), config, recorder = called, lesson.config, context.recorder
    assert recorder is not None
    groups = _group_tokens(recorder, records, lesson.lengths)
    tokens, largest = sum(groups), largest_step(groups, min(config.batch_size, len(groups)))
    steps = config.epochs * math.ceil(len(records) / config.batch_size)
    with context.run.stage(slug(name)) as stage:
        if validate is not None:
            with recorder.asking("answers", steps // config.validate_every):
                validate(cast(LanguageModel, parent))
    checkpoint = Checkpoint(name, parent.path, parent.name, made=made)
    reference = tokens if lesson.objective.needs_reference else 0
    if isinstance(lesson.objective, Distill):  # the teacher reads every response in every pass
        reference = tokens * config.epochs
    epochs = config.epochs
    group = tokens // max(1, len(records))
    size = Trained(tokens * epochs, reference, steps, config, largest, group)
    return recorder.train(stage.name, parent, checkpoint, size)


def _group_tokens(
    recorder: Recorder, records: Sequence[Record], lengths: LengthSettings
) -> list[int]:
    """Estimate the tokens of each record: its prompt once, and its responses."""
    found = []
    for r in records:
        answers = r.responses if isinstance(r, PreferenceGroup) else (r.response,)
        asked = min(recorder.tokens_of(r.prompt), lengths.max_prompt_tokens)
        said = (min(recorder.tokens(a.text), lengths.max_response_tokens) for a in answers)
        found.append(asked + sum(said))
        if len(recorder.trained) == 0 and len(recorder.examples) < EXAMPLES:
            recorder.examples.append((r.prompt.text, answers[0].text))
    return found


@dataclass(frozen=True)
class TrainingTask:
    """Training task, as sent to every rank."""

    context: RunContext
    parent: Checkpoint
    lesson: Any
    """Objective and settings: `TrainSpec`, or `RolloutLesson` for rollouts."""
    items: Sequence[Any]
    """Tokenised groups, or prompts for rollouts."""
    config: TrainConfig
    out: Path

    @property
    def save_dtype(self) -> SaveAs:
        """Type of the saved weights, or "adapter" where an adapter is saved alone."""
        given: SaveDtype = self.lesson.save_dtype
        return "adapter" if self.context.saves_adapter(self.config) else given

    def student(self, lm: LanguageModel | None) -> LanguageModel:
        """Return the student; worker ranks load it themselves."""
        if lm is not None:
            return lm
        if not is_claimed():  # a task of a cluster has the threads that it reserved
            torch.set_num_threads(self.context.threads)
        rewards = learns_rewards(self.lesson.objective)
        return self.context.student(self.parent, self.config, rewards=rewards)


def learns_rewards(objective: Objective) -> bool:
    """Return whether an objective trains rewards, not a distribution over tokens."""
    return input_of(objective) is GroupRewards


def train_on_all_ranks(
    learn: Callable[..., T], task: TrainingTask, title: str, here: Mapping[str, Any]
) -> T:
    """Run a training on all ranks, with progress and tracking on the main one."""
    hardware = task.context.hardware
    hyperparameters = {"objective": repr(task.lesson.objective), **asdict(task.config)}
    with (
        tracking(task.context.track, title, task.out, hyperparameters) as tracker,
        progress.task(title, 1) as bar,
    ):
        log = None if tracker is None else log_to(tracker, task.config)
        shown = {**here, "on_step": shower(bar, log)}
        return run_on_all_ranks(
            learn, task, sharded=hardware.sharded, device=hardware.kind, here=shown
        )


def _learn(
    world: DistributedContext, task: TrainingTask, *, lm: LanguageModel | None = None, **here: Any
) -> TrainResult:
    # Importing the loop takes seconds, which commands that train nothing need not wait for.
    from alignlab.training.loop import train as run_training

    return run_training(
        task.student(lm),
        task.lesson.objective,
        task.items,
        task.config,
        task.out,
        world=world,
        save_dtype=task.save_dtype,
        **here,
    )


_SHOWN = {"objective/scores": "score", "objective/kl": "KL", "loss": "loss"}
"""Metric -> its short name on the progress bar."""


def shower(bar: progress.ProgressTask, log: LogMetrics | None) -> LogMetrics:
    """Return a callback that updates a progress bar and calls another callback."""

    def show(metrics: Mapping[str, Any], step: int, total: int) -> None:
        if log is not None:
            log(metrics, step, total)
        bar.total = total
        shown = [(w, metrics[k]) for k, w in _SHOWN.items() if k in metrics]
        bar.set(step, ", ".join(f"{what} {value:.3f}" for what, value in shown))

    return show


def lost_checkpoints(stage: Stage, result: TrainResult) -> list[Count]:
    """Count the damaged checkpoints whose steps were done again; empty without any."""
    lost = {"damaged, its steps done again": len(result.damaged)}
    return [Count(stage.name, "checkpoints resumed from", 1, lost)] if result.damaged else []


def drop_checkpoints(folder: Path) -> None:
    """Delete the optimiser's checkpoints of a finished training."""
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
