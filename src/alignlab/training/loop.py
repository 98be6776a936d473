"""The one training loop: any objective over groups of responses.

Everything random comes from (seed, step), so a killed run goes on from its newest checkpoint and
ends with the same weights and the same metrics as one that was not killed.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from alignlab.errors import BadInput
from alignlab.models import adapters, heads
from alignlab.models.load import LanguageModel, fingerprint, save
from alignlab.models.packed import TokenGroup
from alignlab.objectives.base import GroupRewards, Objective, input_of
from alignlab.training import checkpoints
from alignlab.training.checkpoints import Progress
from alignlab.training.config import TrainConfig
from alignlab.training.inputs import Reference, inputs_for
from alignlab.training.metrics import MetricsFile, Window
from alignlab.training.precision import Weights
from alignlab.training.reference import group_hash, reference_logps, weights_hash
from alignlab.training.regularise import training_mode
from alignlab.training.schedule import derived_seed, epoch_order, learning_rate, steps_per_epoch
from alignlab.training.step import Stepper

log = logging.getLogger(__name__)

Validate = Callable[[LanguageModel], float]
"""Gives a model a value; higher is better."""
OnStep = Callable[[Mapping[str, float], int, int], None]
"""Told the means since the last line of metrics, the step, and the number of steps."""


@dataclass(frozen=True)
class TrainResult:
    """What a training run ended with."""

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
    plain_because: str | None
    """Why the packed forward was not used; None when it was."""
    seconds: float


def train(
    lm: LanguageModel,
    objective: Objective,
    groups: Sequence[TokenGroup],
    config: TrainConfig,
    out: str | Path,
    *,
    validate: Validate | None = None,
    on_step: OnStep | None = None,
) -> TrainResult:
    """Train a model towards an objective; its weights change in place.

    Args:
        lm: the model to start from, which is also the reference. For an objective over rewards, a
            decoder whose body is copied and given a fresh scalar head, or a reward model.
        objective: the loss.
        groups: tokenised prompts with responses, best first (see `prepare`).
        config: every setting.
        out: folder for metrics.jsonl, checkpoint-N/ and the result, model/; a run that was
            killed goes on from the newest checkpoint there.
        validate: the best model by this value is kept; None keeps the last.
        on_step: called after every step.

    Raises:
        BadInput: groups that the objective cannot take, or settings without effect.
        RunFailed: the loss or a gradient is not finite; the batch is saved in `out`.
    """
    if config.validate_every and validate is None:
        raise BadInput("train: validate_every: expected a validation with it, found none")
    started = time.perf_counter()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    groups = _suited(objective, groups)
    inputs = inputs_for(objective)
    if input_of(objective) is GroupRewards:
        lm = heads.with_reward_head(lm, seed=derived_seed("head", config.seed) % 2**32)
    start = weights_hash(lm.model)
    if config.lora is not None:
        lm = adapters.attach(lm, config.lora, seed=derived_seed("lora", config.seed) % 2**32)
    weights = Weights(lm.model, config.dtype)
    try:
        plain_because = "dropout is on" if config.dropout else None
        scorer = inputs.scorer_class(lm.model, plain_because=plain_because)
        stepper = Stepper(objective, config, weights, scorer, _optimizer(weights, config), out)
        run = _Run(lm, stepper, groups, validate, on_step)
        resumed_from = run.resume(start)
        with training_mode(
            lm.model, dropout=config.dropout, checkpointing=config.gradient_checkpointing
        ):
            loss = run.finish(_reference(lm, stepper, groups, start))
    finally:
        weights.restore()
    lm = _saved(lm, out)
    done = run.progress
    return TrainResult(
        lm,
        done.step,
        done.tokens,
        loss,
        done.best_step,
        done.best_value,
        resumed_from,
        scorer.fallback,
        time.perf_counter() - started,
    )


class _Run:
    """A run's progress through its steps."""

    def __init__(
        self,
        lm: LanguageModel,
        stepper: Stepper,
        groups: Sequence[TokenGroup],
        validate: Validate | None,
        on_step: OnStep | None,
    ) -> None:
        self.lm, self.stepper, self.groups = lm, stepper, groups
        self.validate, self.on_step = validate, on_step
        self.config, self.out = stepper.config, stepper.out
        self.per_epoch = steps_per_epoch(len(groups), self.config)
        self.total = self.per_epoch * self.config.epochs
        self.progress = Progress("")

    def resume(self, start: str) -> int | None:
        """Go to the newest checkpoint's state, if there is one; its step."""
        told = [repr(self.stepper.objective), repr(self.config), start]
        told.extend(f"{group_hash(g)}{g.scores}" for g in self.groups)
        self.progress.run = hashlib.sha256("|".join(told).encode()).hexdigest()[:16]
        newest = checkpoints.newest(self.out)
        if newest is None:
            return None
        stepper = self.stepper
        self.progress = checkpoints.read(
            newest, stepper.weights, stepper.optimizer, self.progress.run
        )
        log.info("going on from %s", newest)
        return self.progress.step

    def finish(self, reference: Reference | None) -> float:
        """Do the steps that are left; the mean loss of the last line of metrics."""
        progress, config = self.progress, self.config
        file = MetricsFile(self.out / "metrics.jsonl", progress.lines)
        loss = file.last("loss")
        for step in range(progress.step, self.total):
            epoch, within = divmod(step, self.per_epoch)
            if within == 0 or step == progress.step:
                order = epoch_order(len(self.groups), config, epoch)
            window = Window(progress.window)
            began = time.perf_counter()
            groups = [self.groups[i] for i in order[within]]
            known = None if reference is None else [reference[i] for i in order[within]]
            lr = learning_rate(step, self.total, config)
            self.stepper.step(step, groups, known, lr, window)
            tokens = sum(group.tokens for group in groups)
            window.add("time/seconds_per_step", time.perf_counter() - began, 1)
            progress.step, progress.tokens = step + 1, progress.tokens + tokens
            progress.window = window.sums
            if self.on_step is not None:
                self.on_step(window.means(), step + 1, self.total)
            if (step + 1) % config.log_every == 0 or step + 1 == self.total:
                loss = self._write_line(file, lr)
            self._validate_and_save()
        self._take_best()
        return loss

    def _write_line(self, file: MetricsFile, lr: float) -> float:
        progress = self.progress
        means = Window(progress.window).means()
        epoch = progress.step / self.per_epoch
        file.write(
            {"step": progress.step, "epoch": epoch, "learning_rate": lr, "tokens": progress.tokens}
            | means
        )
        progress.window, progress.lines = {}, file.lines
        return means["loss"]

    def _validate_and_save(self) -> None:
        """What is due after a step: validation, then a checkpoint that knows its outcome."""
        progress, config = self.progress, self.config
        last = progress.step == self.total
        due = config.validate_every and progress.step % config.validate_every == 0
        if self.validate is not None and (due or last):
            self.lm.model.eval()
            value = float(self.validate(self.lm))
            self.lm.model.train()
            if progress.best_value is None or value > progress.best_value:
                progress.best_step, progress.best_value = progress.step, value
                _save_weights(self.stepper.weights, self.out / "best.safetensors")
            log.info("step %d: validation %.6g", progress.step, value)
        if config.save_every and progress.step % config.save_every == 0 and not last:
            checkpoints.write(
                self.lm,
                self.stepper.weights,
                self.stepper.optimizer,
                progress,
                self.out,
                keep=config.keep_checkpoints,
            )

    def _take_best(self) -> None:
        if self.progress.best_step not in (None, self.progress.step):
            self.stepper.weights.load(load_file(self.out / "best.safetensors"))


def _suited(objective: Objective, groups: Sequence[TokenGroup]) -> list[TokenGroup]:
    """The groups as the objective takes them.

    Raises:
        BadInput: there are none, or one has too few or too many responses.
    """
    if not groups:
        raise BadInput("train: expected at least one group to train on, found none")
    name = type(objective).__name__
    fewest, most = objective.min_responses, objective.max_responses
    for group in groups:
        K = len(group.responses)
        if fewest > K or (most is not None and most < K):
            expected = f"{fewest}" if fewest == most else f"{fewest} to {most or 'any number'}"
            raise BadInput(
                f"train: group {group.id}: {name} expects {expected} responses, found {K}"
            )
    if not objective.best_only:
        return list(groups)
    return [replace(g, responses=g.responses[:1], scores=g.scores[:1]) for g in groups]


def _optimizer(weights: Weights, config: TrainConfig) -> torch.optim.Optimizer:
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


def _reference(
    lm: LanguageModel, stepper: Stepper, groups: Sequence[TokenGroup], start: str
) -> Reference | None:
    if not stepper.objective.needs_reference:
        return None
    config = stepper.config
    file = stepper.out / "reference" / f"{start}-{config.dtype}.jsonl"
    with adapters.adapter_off(lm.model):
        return reference_logps(stepper.scorer, groups, file, token_budget=config.token_budget)


def _save_weights(weights: Weights, file: Path) -> None:
    partial = file.with_suffix(".partial")
    named = zip(weights.names, weights.masters, strict=True)
    save_file({name: master.detach().contiguous() for name, master in named}, partial)
    partial.replace(file)


def _saved(lm: LanguageModel, out: Path) -> LanguageModel:
    """The finished model, written to out/model (and out/adapter)."""
    if adapters.is_adapted(lm.model):
        save(lm, out / "adapter", adapter_only=True)
        lm = adapters.merged(lm)
    save(lm, out / "model")
    return replace(lm, path=str(out / "model"), fingerprint=fingerprint(out / "model"))
