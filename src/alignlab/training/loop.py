"""Train a model by any objective over groups of responses.

All randomness derives from (seed, step): a killed run resumes from its newest checkpoint and ends
with the same weights and metrics as an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alignlab.errors import BadInput
from alignlab.models import adapters, heads
from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup
from alignlab.models.quant import is_quantised
from alignlab.objectives.base import GroupRewards, Objective, TailedLogps, input_of
from alignlab.objectives.rollout_batch import is_policy_gradient
from alignlab.training.config import SaveAs, TrainConfig
from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext
from alignlab.training.inputs import Reference
from alignlab.training.metrics import MetricSums
from alignlab.training.reference_logps import group_hash, reference_logps
from alignlab.training.schedule import derived_seed, epoch_order, learning_rate, steps_per_epoch
from alignlab.training.step import StepRunner
from alignlab.training.teacher import teacher_of
from alignlab.training.trainer_state import (
    OnStep,
    TrainerState,
    TrainingCallbacks,
    TrainResult,
    Validate,
    begin,
    step_runner,
    with_dtype,
)


def train(
    lm: LanguageModel,
    objective: Objective,
    groups: Sequence[TokenGroup],
    config: TrainConfig,
    out: str | Path,
    *,
    validate: Validate | None = None,
    on_step: OnStep | None = None,
    world: DistributedContext = SINGLE_PROCESS,
    save_dtype: SaveAs = "float32",
) -> TrainResult:
    """Train a model towards an objective; its weights change in place.

    Args:
        lm: initial model, which is also the reference. For an objective over rewards, a reward
            model, or a decoder whose body is copied and gets a fresh scalar head.
        objective: the loss.
        groups: tokenised prompts with responses, best first (see `prepare`).
        config: settings of the loop.
        out: folder for metrics.jsonl, checkpoint-N/ and the result, model/; a killed run resumes
            from its newest checkpoint.
        validate: value by which the best model is chosen; None takes the last.
        on_step: callback after every step.
        world: processes that train together; each calls this function with the same arguments.
            `validate` and `on_step` are used on the main rank only.
        save_dtype: type of the saved weights; "input" is the type in the model's files, and
            "adapter" saves an adapter alone, which is not merged.

    Raises:
        BadInput: groups that the objective cannot take, or settings without effect.
        RunFailed: the loss or a gradient is not finite (the batch is saved in `out`), or memory
            runs out on a single group.
    """
    if config.validate_every and validate is None and world.is_main:
        raise BadInput("train: validate_every: expected a validation with it, found none")
    if (config.quant != "none") != is_quantised(lm.model):
        found = "quantised" if is_quantised(lm.model) else "plain"
        raise BadInput(
            f"train: quant: {config.quant} does not fit {lm.name}, whose weights are {found}"
        )
    started = time.perf_counter()
    groups = _suited(objective, groups)
    if input_of(objective) is GroupRewards:
        lm = heads.with_reward_head(lm, seed=derived_seed("head", config.seed) % 2**32)
    config = with_dtype(config, lm, world)
    teacher = teacher_of(objective, lm, config.dtype, world)
    lm, start = begin(lm, config, Path(out), world)
    alone, where = save_dtype == "adapter", (Path(out), world, lm)
    with step_runner(lm.model, objective, config, *where, alone=alone) as runner:
        runner.teacher = teacher
        runner.plan(groups)
        per_epoch = steps_per_epoch(len(groups), config)
        state = TrainerState(
            lm,
            runner,
            per_epoch=per_epoch,
            total=per_epoch * config.epochs,
            hooks=TrainingCallbacks(validate, on_step),
        )
        state.run(
            [start, *(f"{group_hash(g)}{g.scores}{g.probability or ''}" for g in groups)],
            lambda: _steps(state, groups, _reference(lm, runner, groups, start)),
        )
    return state.saved(save_dtype, started)


def _steps(state: TrainerState, groups: Sequence[TokenGroup], reference: Reference | None) -> float:
    """Do the remaining steps; return the mean loss of the last line of metrics."""
    config, first = state.config, state.progress.step
    loss = state.open()
    for step in range(first, state.total):
        epoch, within = divmod(step, state.per_epoch)
        if within == 0 or step == first:
            order = epoch_order(len(groups), config, epoch)
        metric_sums = MetricSums(state.progress.window)
        began = time.perf_counter()
        taken = [groups[i] for i in order[within]]
        known = None if reference is None else [reference[i] for i in order[within]]
        lr = learning_rate(step, state.total, config)
        state.runner.step(step, taken, known, lr, metric_sums)
        metric_sums.add("time/seconds_per_step", time.perf_counter() - began, 1)
        written = state.done(metric_sums, lr, sum(group.tokens for group in taken))
        loss = loss if written is None else written
    state.take_best()
    return loss


def _suited(objective: Objective, groups: Sequence[TokenGroup]) -> list[TokenGroup]:
    """Return the groups in the form that the objective takes.

    Raises:
        BadInput: no groups, or one with too few or too many responses.
    """
    if not groups:
        raise BadInput("train: expected at least one group to train on, found none")
    name = type(objective).__name__
    if is_policy_gradient(objective):
        raise BadInput(f"train: {name} learns from rollouts, not from given responses")
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


def _reference(
    lm: LanguageModel, runner: StepRunner, groups: Sequence[TokenGroup], start: str
) -> Reference | None:
    """Return the reference's log-probabilities of every group; None where none are needed."""
    if not runner.objective.needs_reference:
        return None
    config = runner.config
    file = runner.out / "reference" / f"{start}-{config.dtype}.jsonl"
    with adapters.adapter_off(lm.model):
        found = reference_logps(runner.scorer, groups, file, runner.budget)
        if input_of(runner.objective) is not TailedLogps:
            return found
        starts = reference_logps(runner.scorer, list(map(_start, groups)), file, runner.budget)
    return [
        (*whole, *(all_ - start for all_, start in zip(whole, starting, strict=True)))
        for whole, starting in zip(found, starts, strict=True)
    ]


def _start(group: TokenGroup) -> TokenGroup:
    """Cut a group's responses to the length of its shortest."""
    return replace(group, responses=tuple(r[: group.shortest_response] for r in group.responses))
