"""Do what every training loop does around its steps: metrics, validation, checkpoints, result."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from alignlab.models import adapters
from alignlab.models.load import LanguageModel, fingerprint, save
from alignlab.training import checkpoints
from alignlab.training.checkpoints import Progress
from alignlab.training.config import SaveDtype, TrainConfig
from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext
from alignlab.training.metrics import MetricsFile, MetricSums
from alignlab.training.precision import Weights
from alignlab.training.step import StepRunner

log = logging.getLogger(__name__)

Validate = Callable[[LanguageModel], float]
"""Gives a model a value; higher is better."""
OnStep = Callable[[Mapping[str, float], int, int], None]
"""Told the means since the last line of metrics, the step, and the number of steps."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """Callbacks of a training."""

    validate: Validate | None = None
    """The best model by this value is kept; None keeps the last."""
    on_step: OnStep | None = None
    """Called after every step."""


@dataclass(frozen=True)
class TrainResult:
    """Result of a training."""

    lm: LanguageModel
    """The trained model (an adapter merged), as saved at `lm.path`."""
    steps: int
    tokens: int
    """Stream tokens trained on: a prompt once per group and pass, and all its responses."""
    loss: float
    """Mean loss of the last line of metrics."""
    best_step: int | None
    """Step whose weights were kept; None without validation (then the last)."""
    best_value: float | None
    resumed_from: int | None
    """Step of the checkpoint that the run went on from."""
    padded_because: str | None
    """Reason for padded batches; None when they were packed."""
    token_budget: int | None
    """Token budget that memory allowed, where it is less than the setting; else None."""
    seconds: float


class TrainerState:
    """A run's progress through its steps.

    Args:
        lm: the model in training.
        runner: does the optimiser's steps; its settings and folder are the run's.
        per_epoch: steps of one pass over the data.
        total: steps of the run.
        hooks: validation, and a callback after each step.
    """

    def __init__(
        self,
        lm: LanguageModel,
        runner: StepRunner,
        *,
        per_epoch: int,
        total: int,
        hooks: TrainingCallbacks,
    ) -> None:
        self.lm, self.runner, self.hooks = lm, runner, hooks
        self.config, self.out = runner.config, runner.out
        self.per_epoch, self.total = per_epoch, total
        self.progress = Progress("")
        self.world = runner.world
        self._validates = self.world.broadcast_from_main(lambda: hooks.validate is not None)

    def resume(self, identity: Sequence[str]) -> int | None:
        """Go to the newest checkpoint's state, if there is one; its step.

        Args:
            identity: parts of the run's identity besides objective and settings.
        """
        parts = [repr(self.runner.objective), repr(self.config), *identity]
        self.progress.run = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
        newest = self.world.broadcast_from_main(lambda: checkpoints.newest(self.out))
        if newest is None:
            return None
        runner = self.runner
        self.progress = checkpoints.read(
            newest, runner.weights, runner.optimizer, self.progress.run
        )
        log.info("going on from %s", newest)
        return self.progress.step

    def open(self) -> float:
        """Take up the file of metrics where it stopped; the loss of its last line."""
        path, lines = self.out / "metrics.jsonl", self.progress.lines
        self._file = MetricsFile(path, lines, writes=self.world.is_main)
        return self.world.broadcast_from_main(lambda: self._file.last("loss"))

    def done(self, window: MetricSums, lr: float, tokens: int) -> float | None:
        """Note a step as done, and do what is due after it; the mean loss if a line was written.

        Args:
            window: the step's metrics added to those before it.
            lr: its learning rate.
            tokens: stream tokens it trained on.
        """
        progress, config = self.progress, self.config
        progress.step, progress.tokens = progress.step + 1, progress.tokens + tokens
        progress.window = window.sums
        if self.hooks.on_step is not None:
            self.hooks.on_step(window.means(), progress.step, self.total)
        loss = None
        if progress.step % config.log_every == 0 or progress.step == self.total:
            loss = self._write_line(lr)
        self._validate_and_save()
        return loss

    def take_best(self) -> None:
        """Give the model the weights that validation found best."""
        if self.progress.best_step not in (None, self.progress.step):
            self.world.wait()  # for the leader to have written it
            self.runner.weights.load(load_file(self.out / "best.safetensors"))

    def result(
        self, lm: LanguageModel, loss: float, resumed_from: int | None, seconds: float
    ) -> TrainResult:
        """Return the result of the run.

        Args:
            lm: the model as it was saved.
            loss: mean loss of the last line of metrics.
            resumed_from: step of the checkpoint that the run went on from.
            seconds: what it took.
        """
        done = self.progress
        return TrainResult(
            lm,
            done.step,
            done.tokens,
            loss,
            done.best_step,
            done.best_value,
            resumed_from,
            self.runner.scorer.padded_because,
            self.runner.budget.lowered,
            seconds,
        )

    def _write_line(self, lr: float) -> float:
        progress = self.progress
        means = MetricSums(progress.window).means()
        epoch = progress.step / self.per_epoch
        self._file.write(
            {"step": progress.step, "epoch": epoch, "learning_rate": lr, "tokens": progress.tokens}
            | means
        )
        progress.window, progress.lines = {}, self._file.lines
        return means["loss"]

    def _validate_and_save(self) -> None:
        """Validate and save as is due after a step; the checkpoint holds the outcome."""
        progress, config = self.progress, self.config
        last = progress.step == self.total
        due = config.validate_every and progress.step % config.validate_every == 0
        if self._validates and (due or last):
            values = self.runner.weights.values()
            value = self._value(values)
            if progress.best_value is None or value > progress.best_value:
                progress.best_step, progress.best_value = progress.step, value
                if self.world.is_main:
                    _save_weights(values, self.out / "best.safetensors")
            log.info("step %d: validation %.6g", progress.step, value)
        if config.save_every and progress.step % config.save_every == 0 and not last:
            checkpoints.write(
                self.lm,
                self.runner.weights,
                self.runner.optimizer,
                progress,
                self.out,
                keep=config.keep_checkpoints,
                world=self.world,
            )

    def _value(self, values: Mapping[str, Tensor]) -> float:
        """Validate the weights in the main process, while the others wait."""
        lm = self.runner.weights.model(self.lm, values)

        def ask() -> float:
            assert self.hooks.validate is not None
            training = lm.model.training
            lm.model.eval()
            value = float(self.hooks.validate(lm))
            lm.model.train(training)
            return value

        return self.world.broadcast_from_main(ask)


def adamw(weights: Weights, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of a run; matrices are decayed, vectors are not."""
    matrices = [m for m in weights.masters if m.ndim > 1]
    vectors = [m for m in weights.masters if m.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(config.adam_beta1, config.adam_beta2),
        fused=True,
    )


def save_trained(
    lm: LanguageModel,
    out: Path,
    world: DistributedContext = SINGLE_PROCESS,
    *,
    dtype: SaveDtype = "float32",
) -> LanguageModel:
    """Write the finished model to out/model (and its adapter to out/adapter) in the main process.

    Args:
        dtype: type of the weights in the file; "input" is that of the model training began with.

    Returns:
        The model with its new path; its weights in memory stay float32. In other processes an
        adapter stays as it is.
    """
    folder = out / "model"
    if world.is_main:
        if adapters.is_adapted(lm.model):
            save(lm, out / "adapter", adapter_only=True)
            lm = adapters.merged(lm)
        save(lm, folder, dtype=lm.stored if dtype == "input" else dtype)
    digest = world.broadcast_from_main(lambda: fingerprint(folder))
    return replace(lm, path=str(folder), fingerprint=digest)


def _save_weights(values: Mapping[str, Tensor], file: Path) -> None:
    partial = file.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in values.items()}, partial)
    partial.replace(file)
