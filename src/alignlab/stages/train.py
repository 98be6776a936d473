"""Train: records and an objective make the next checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from alignlab import progress, seeds
from alignlab.configs import Bounded, PositiveInt
from alignlab.models.load import LanguageModel, fingerprint
from alignlab.models.packed import TokenGroup
from alignlab.objectives.base import Objective
from alignlab.objectives.reward_conditioned import RewardConditioned
from alignlab.stages.lab import Lab
from alignlab.training.config import SaveDtype, TrainConfig
from alignlab.training.distributed import DistributedContext
from alignlab.training.ranks import run_on_all_ranks
from alignlab.training.record_kinds import Record, prepare_for, reward_bins
from alignlab.training.tracking import LogMetrics, log_to, tracking
from alignlab.types import Checkpoint, Usage

if TYPE_CHECKING:
    from alignlab.training.trainer_state import TrainResult


@dataclass(frozen=True)
class LengthSettings(Bounded):
    """Limits of the sequences that models are trained on."""

    max_prompt_tokens: PositiveInt = 1024
    """Longest prompt, in tokens."""
    max_response_tokens: PositiveInt = 1024
    """Longest response, in tokens, its end-of-turn token included."""
    too_long: Literal["drop", "cut"] = "drop"
    """Treatment of a longer record; either is counted in the manifest."""


@dataclass(frozen=True)
class TrainSpec:
    """Objective and settings of a training."""

    objective: Objective
    config: TrainConfig
    lengths: LengthSettings
    drop_bad: bool = False
    """Leave out records that the chat template refuses or that hold it already, and count them."""
    save_dtype: SaveDtype = "float32"
    """Type of the saved weights; float32 where further trainings start from them."""


@dataclass(frozen=True)
class TrainingSummary:
    """Outcome of a training."""

    steps: int
    best_step: int | None
    """Step whose weights were kept by validation; None keeps the last."""
    best_value: float | None
    plain_because: str | None
    """Reason for padded batches; None when prompts were shared among responses."""


def train(
    lab: Lab,
    parent: Checkpoint,
    records: Sequence[Record],
    lesson: TrainSpec,
    *,
    name: str,
    validate: Callable[[LanguageModel], float] | None = None,
) -> Checkpoint:
    """Train a copy of the parent on the records; the result is in Hugging Face format.

    Args:
        name: what the study calls the new checkpoint; also the stage's name.
        validate: value of a model on validation data; the best checkpoint by it is kept.

    Raises:
        BadInput: no record is left to train on, or settings that the objective refuses.
        RunFailed: the loss is not a number; the batch is saved in the stage's folder.
    """
    config, lengths = lesson.config, lesson.lengths
    inputs = {"parent": parent.name, "records": str(len(records))}
    with lab.run.stage(slug(name), config=lesson, inputs=inputs) as stage:
        if not stage.done:
            seed = seeds.derive(lab.seed_for("train", name), config.seed)
            lm = lab.student(parent, config)
            objective = lesson.objective
            groups, count = prepare_for(
                lm, objective, records, seed=seed, drop_bad=lesson.drop_bad, **asdict(lengths)
            )
            stage.count([replace(count, stage=stage.name)])
            title = lab.title(f"{name} learns")
            settings = {"objective": repr(objective), **asdict(config)}
            with (
                tracking(lab.track, title, stage.path, settings) as tracker,
                progress.task(title, 1) as bar,
            ):
                tell = None if tracker is None else log_to(tracker, config)
                here = {"lm": lm, "validate": validate, "on_step": shower(bar, tell)}
                result = run_on_all_ranks(
                    _learn,
                    _Task(lab, parent, lesson, groups, replace(config, seed=seed), stage.path),
                    sharded=lab.hardware.sharded,
                    device=lab.hardware.kind,
                    here=here,
                )
            if isinstance(objective, RewardConditioned):
                reward_bins(objective, records).save(stage.path / "model")
            kept = TrainingSummary(
                result.steps, result.best_step, result.best_value, result.plain_because
            )
            stage.write("trained", TrainingSummary, [kept])
            drop_checkpoints(stage.path)
            stage.spend(Usage(tokens=result.tokens))
        folder = stage.path / "model"
        return Checkpoint(name, str(folder), parent.name, fingerprint=fingerprint(folder))


@dataclass(frozen=True)
class _Task:
    """A training as it is sent to every process."""

    lab: Lab
    parent: Checkpoint
    lesson: TrainSpec
    groups: Sequence[TokenGroup]
    config: TrainConfig
    out: Path


def _learn(
    world: DistributedContext, task: _Task, *, lm: LanguageModel | None = None, **here: Any
) -> TrainResult:
    """Train, as one of the processes that do; those that follow load the student themselves."""
    # Importing the loop takes seconds, which commands that train nothing need not wait for.
    from alignlab.training.loop import train as run_training

    if lm is None:
        torch.set_num_threads(task.lab.threads)
        lm = task.lab.student(task.parent, task.config)
    return run_training(
        lm,
        task.lesson.objective,
        task.groups,
        task.config,
        task.out,
        world=world,
        save_dtype=task.lesson.save_dtype,
        **here,
    )


def slug(name: str) -> str:
    """A file name for a checkpoint's name: "M2 (3 samples)" -> "m2-3-samples"."""
    kept = "".join(c if c.isalnum() else " " for c in name.lower())
    return "-".join(kept.split())


_SHOWN = {"objective/scores": "score", "objective/kl": "KL", "loss": "loss"}
"""Metrics shown with a training's bar, and their names there."""


def shower(bar: progress.ProgressTask, tell: LogMetrics | None) -> LogMetrics:
    """Shows every step on a bar, and tells another."""

    def show(metrics: Mapping[str, Any], step: int, total: int) -> None:
        if tell is not None:
            tell(metrics, step, total)
        bar.total = total
        shown = [(w, metrics[k]) for k, w in _SHOWN.items() if k in metrics]
        bar.set(step, ", ".join(f"{what} {value:.3f}" for what, value in shown))

    return show


def drop_checkpoints(folder: Path) -> None:
    """Remove the optimiser's checkpoints of a finished training; the model is saved."""
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
