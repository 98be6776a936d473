"""Share setup, metrics, validation, checkpoints and results among training loops."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from alignlab.files import make_folder
from alignlab.machine import freed_memory_kept
from alignlab.models import adapters
from alignlab.models.dtypes import resolve_dtype
from alignlab.models.load import LanguageModel, fingerprint, save, save_adapter
from alignlab.models.quant import is_quantised
from alignlab.models.scorer import eval_mode
from alignlab.objectives.base import Objective
from alignlab.training import checkpoints
from alignlab.training.checkpoints import Progress
from alignlab.training.config import SaveAs, TrainConfig
from alignlab.training.distributed import DistributedContext
from alignlab.training.inputs import inputs_for
from alignlab.training.metrics import MetricsFile, MetricSums
from alignlab.training.precision import Weights
from alignlab.training.reference_logps import weights_hash
from alignlab.training.regularise import training_mode
from alignlab.training.schedule import derived_seed
from alignlab.training.selection import Scores, is_better, mean_of
from alignlab.training.step import StepRunner

if TYPE_CHECKING:
    from alignlab.training.shard_files import BackgroundSaves

log = logging.getLogger(__name__)

T = TypeVar("T", bound=TrainConfig)

Validate = Callable[[LanguageModel], float | Scores]
"""Value of a model, or its scores by validation prompt; higher is better."""
OnStep = Callable[[Mapping[str, float], int, int], None]
"""Callback with the mean metrics since the last line, the step, and the number of steps."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """Callbacks of a training."""

    validate: Validate | None = None
    """Value by which the best model is chosen; None takes the last, as values of NaN alone do."""
    on_step: OnStep | None = None
    """Callback after every step."""


@dataclass(frozen=True)
class TrainResult:
    """Result of a training."""

    lm: LanguageModel
    """The trained model (an adapter merged, unless it is saved alone), as saved at `lm.path`."""
    steps: int
    """Optimiser steps."""
    tokens: int
    """Stream tokens trained on: every prompt once per group and pass, with all responses."""
    loss: float
    """Mean loss of the last line of metrics."""
    best_step: int | None
    """Step of the chosen weights; None without validation, which takes the last."""
    best_value: float | None
    """Validation value at `best_step`."""
    resumed_from: int | None
    """Step of the checkpoint that the run resumed from."""
    damaged: tuple[str, ...]
    """Damaged checkpoints after it, whose steps were done again."""
    padded_because: str | None
    """Reason for padded batches; None where they were packed."""
    dtype: str
    """Type of the forward and backward passes."""
    token_budget: int | None
    """Token budget that memory allowed, where it is below the setting; else None."""
    seconds: float
    """Wall-clock time."""


class TrainerState:
    """A run's progress through its steps.

    Args:
        lm: model in training.
        runner: runner of the optimiser's steps, with settings and output folder of the run.
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
        self.resumed_from: int | None = None
        self.damaged: tuple[str, ...] = ()
        self.loss = math.nan
        self.world = runner.world
        self._validates = self.world.broadcast_from_main(lambda: hooks.validate is not None)
        self._saves: BackgroundSaves | None = None
        if self.world.sharded:
            # Importing torch.distributed.checkpoint takes time, which other trainings need not pay.
            from alignlab.training.shard_files import BackgroundSaves

            self._saves = BackgroundSaves(self.world)

    def run(self, identity: Sequence[str], steps: Callable[[], float]) -> None:
        """Resume from the newest checkpoint and do the remaining steps.

        Args:
            identity: parts of the run's identity besides objective and settings.
            steps: does the remaining steps, and returns the mean loss of the last line of metrics.
        """
        self._resume(identity)
        config, weights = self.config, self.runner.weights
        with training_mode(
            self.lm.model, dropout=config.dropout, checkpointing=config.gradient_checkpointing
        ):
            self.loss = steps()
        if self._saves is not None:
            self._saves.settle()
        self.lm = weights.model(self.lm, weights.values())

    def _resume(self, identity: Sequence[str]) -> None:
        """Restore the newest whole checkpoint, if there is one; log the damaged ones after it."""
        parts = [repr(self.runner.objective), repr(self.config), *identity]
        self.progress.run = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
        newest, damaged = self.world.broadcast_from_main(lambda: checkpoints.newest(self.out))
        self.damaged = tuple(map(str, damaged))
        if newest is None:
            return
        for damage in self.damaged:
            log.warning("%s; resuming from %s instead", damage, newest.name)
        runner = self.runner
        self.progress = checkpoints.read(
            newest, runner.weights, runner.optimizer, self.progress.run
        )
        log.info("resuming from %s", newest)
        self.resumed_from = self.progress.step

    def open(self) -> float:
        """Open metrics.jsonl after its last valid line; return the loss of that line."""
        path, lines = self.out / "metrics.jsonl", self.progress.lines
        self._file = MetricsFile(path, lines, writes=self.world.is_main)
        return self.world.broadcast_from_main(lambda: self._file.last("loss"))

    def done(self, metric_sums: MetricSums, lr: float, tokens: int) -> float | None:
        """Record a finished step; log, validate and save where due.

        Args:
            metric_sums: metrics of the steps since the last line, this one included.
            lr: learning rate of the step.
            tokens: stream tokens of the step.

        Returns:
            Mean loss of the line of metrics; None where none was written.
        """
        progress, config = self.progress, self.config
        progress.step, progress.tokens = progress.step + 1, progress.tokens + tokens
        progress.window = metric_sums.sums
        if self.hooks.on_step is not None:
            self.hooks.on_step(metric_sums.means(), progress.step, self.total)
        self._validate(metric_sums)
        loss = None
        if progress.step % config.log_every == 0 or progress.step == self.total:
            loss = self._write_line(lr)
        self._save()
        return loss

    def take_best(self) -> None:
        """Load the best weights by validation into the model."""
        if self.progress.best_step not in (None, self.progress.step):
            if self._saves is not None:
                self._saves.settle()
            self.world.wait()  # until the main rank has written the file
            checkpoints.read_best(self.runner.weights, self.out)

    def saved(self, dtype: SaveAs, started: float) -> TrainResult:
        """Save the trained model (out/model, an adapter in out/adapter too) on the main rank.

        Args:
            dtype: type of the weights in the file; "input" is that of the initial model's files,
                "adapter" makes out/model the folder of an adapter alone.
            started: value of `time.perf_counter` at the start of the training.

        Returns:
            Result with the model at its new path; its weights in memory are float32, on the CPU
            where an adapter was trained on bfloat16 ones. An adapter that is saved alone stays
            unmerged, as on worker ranks.
        """
        lm, folder = self.lm, self.out / "model"
        if self.world.is_main and dtype == "adapter":
            save_adapter(lm, folder)
        elif self.world.is_main:
            if adapters.is_adapted(lm.model):
                save(lm, self.out / "adapter", adapter_only=True)
                if not is_quantised(lm.model) and lm.model.dtype != torch.float32:
                    # The adapter's update would be rounded; and a GPU may not hold float32 weights.
                    lm = replace(lm, model=lm.model.cpu().float(), device=torch.device("cpu"))
                lm = adapters.merged(lm)
            save(lm, folder, dtype=lm.stored if dtype == "input" else dtype)
        digest = self.world.broadcast_from_main(lambda: fingerprint(folder))
        lm, done = replace(lm, path=str(folder), fingerprint=digest), self.progress
        return TrainResult(
            lm,
            done.step,
            done.tokens,
            self.loss,
            done.best_step,
            done.best_value,
            self.resumed_from,
            self.damaged,
            self.runner.scorer.padded_because,
            self.config.dtype,
            self.runner.budget.lowered,
            time.perf_counter() - started,
        )

    def _write_line(self, lr: float) -> float:
        """Write the mean metrics since the last line; return the mean loss."""
        progress = self.progress
        means = MetricSums(progress.window).means()
        epoch = progress.step / self.per_epoch
        self._file.write(
            {"step": progress.step, "epoch": epoch, "learning_rate": lr, "tokens": progress.tokens}
            | means
        )
        progress.window, progress.lines = {}, self._file.lines
        return means["loss"]

    def _validate(self, metric_sums: MetricSums) -> None:
        """Validate where due after a step, and keep the best weights."""
        progress, config = self.progress, self.config
        last = progress.step == self.total
        due = config.validate_every and progress.step % config.validate_every == 0
        if self._validates and (due or last):
            scores = self._scores()
            value, name = mean_of(scores), f"step {progress.step}"
            # No weights are the best by a value that is not a number.
            if not math.isnan(value) and (
                progress.best_step is None or self._improves(scores, name)
            ):
                progress.best_step, progress.best_value = progress.step, value
                progress.best_scores = dict(scores)
                checkpoints.write_best(self._saves, self.runner.weights, self.out, self.world)
            log.info("step %d: validation %.6g", progress.step, value)
            metric_sums.add("validation", value, 1)
            if scores.keys() != {""}:
                metric_sums.add("validation/scored", len(scores), 1)

    def _improves(self, scores: Scores, name: str) -> bool:
        """Return whether scores are better than the best so far."""
        best, value = self.progress.best_scores, self.progress.best_value
        if not best and value is not None:  # of an earlier version, which kept the mean alone
            return mean_of(scores) > value
        return is_better(scores, best, name)

    def _save(self) -> None:
        """Save a checkpoint where due after a step."""
        progress, config = self.progress, self.config
        last = progress.step == self.total
        if not config.save_every or progress.step % config.save_every or last:
            return
        states = self.runner.weights, self.runner.optimizer, progress, self.out
        keep = config.keep_checkpoints
        if self._saves is not None:
            checkpoints.write_shards(self._saves, *states, keep=keep)
        else:
            checkpoints.write(self.lm, *states, keep=keep, world=self.world)

    def _scores(self) -> Scores:
        """Validate the weights on the main rank, while the others wait or make its passes.

        Returns:
            Scores by validation prompt; a value of the whole under "".
        """
        scores: Scores = {}
        with self.runner.weights.sampling(self.lm) as lm:
            if self.world.is_main:
                assert self.hooks.validate is not None
                with eval_mode(lm.model):
                    value = self.hooks.validate(lm)
                scores = value if isinstance(value, Mapping) else {"": float(value)}
        return self.world.broadcast_from_main(lambda: scores)


def adamw(weights: Weights, config: TrainConfig) -> torch.optim.Optimizer:
    """Make the AdamW optimiser of a run; matrices are decayed, vectors are not."""
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


def with_dtype(config: T, lm: LanguageModel, world: DistributedContext) -> T:
    """Return settings with the type that `auto` means for this model and device."""
    if config.dtype == "auto" and is_quantised(lm.model):  # loaded with products in a type
        stored: Any = str(lm.model.dtype).removeprefix("torch.")
        return replace(config, dtype=stored)
    device = torch.device(world.device) if world.sharded else lm.device
    parameters = sum(p.numel() for p in lm.model.parameters())
    chosen: Any = resolve_dtype(config.dtype, device, parameters)
    return replace(config, dtype=chosen)


def begin(
    lm: LanguageModel, config: TrainConfig, out: Path, world: DistributedContext
) -> tuple[LanguageModel, str]:
    """Make the output folder and attach the adapter of the settings, if any.

    Returns:
        The model to train, and the hash of its initial weights.
    """
    if world.is_main:
        make_folder(out)
    read = lm.weights.rows if lm.weights is not None else None
    start = world.broadcast_from_main(lambda: weights_hash(lm.model, read))
    if config.lora is None:
        return lm, start
    return adapters.attach(lm, config.lora, seed=derived_seed("lora", config.seed) % 2**32), start


@contextmanager
def step_runner(
    model: Any,
    objective: Objective,
    config: TrainConfig,
    out: Path,
    world: DistributedContext,
    lm: LanguageModel,
    *,
    alone: bool = False,
) -> Iterator[StepRunner]:
    """Yield the runner of a model's training steps; afterwards the weights are float32.

    Args:
        model: the model of `lm`, with a value head where the objective needs one.
        lm: tokenizer of the model, and files of weights that are on the meta device.
        alone: save an adapter alone; the weights under it stay in the type of the passes.
    """
    if world.sharded:
        # Importing FSDP2 takes a second, which other trainings need not pay.
        from alignlab.training.sharding import ShardedWeights

        weights: Weights = ShardedWeights(model, config.dtype, world, lm.weights)
    else:
        weights = Weights(model, config.dtype, alone=alone)
    with freed_memory_kept():
        try:
            scorer = inputs_for(objective).scorer_class(
                model,
                padded_because="dropout is on" if config.dropout else None,
                through=weights.through,
                tokenizer=lm.tokenizer,
            )
            yield StepRunner(objective, config, weights, scorer, adamw(weights, config), out, world)
        finally:
            weights.restore()
