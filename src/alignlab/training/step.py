"""Do one optimiser step over micro-batches.

Gradients of weighted loss sums are added over the micro-batches and over the processes that share
the step, and divided by the step's total weight at the end: the split changes nothing but memory
and rounding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignlab.errors import RunFailed
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import EmbeddingNoise, Scorer
from alignlab.models.weight_files import first_not_finite
from alignlab.objectives.base import Objective
from alignlab.training.budget import Pass, TokenBudget
from alignlab.training.config import TrainConfig
from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext
from alignlab.training.inputs import Reference, inputs_for
from alignlab.training.metrics import MetricSums
from alignlab.training.precision import Weights
from alignlab.training.schedule import derived_seed


class _Done(NamedTuple):
    """Sums and metrics of a forward and backward pass."""

    loss_sum: float
    weight_sum: float
    metrics: Mapping[str, Tensor]


@dataclass
class StepRunner:
    """Runner of a training's optimiser steps."""

    objective: Objective
    config: TrainConfig
    weights: Weights
    scorer: Scorer[Any]
    optimizer: torch.optim.Optimizer
    out: Path
    """Output folder, which gets a batch whose loss or gradient is not finite."""
    world: DistributedContext = SINGLE_PROCESS
    """Processes that share every step."""
    teacher: Scorer[Any] | None = None
    """Scorer of the teacher, for an objective over its logits."""

    def __post_init__(self) -> None:
        self.budget = TokenBudget(
            self.config.token_budget, self.world, self.out / "token_budget.json"
        )

    def plan(self, groups: Sequence[TokenGroup]) -> None:
        """Plan the passes over groups by the memory that is free (see `TokenBudget.plan`)."""
        self.budget.plan(
            self.scorer,
            groups,
            reserved=self.weights.bytes_to_come(),
            checkpointing=self.config.gradient_checkpointing,
        )

    def step(
        self,
        number: int,
        groups: Sequence[TokenGroup],
        reference: Reference | None,
        lr: float,
        metric_sums: MetricSums,
    ) -> None:
        """Do a step over the groups, and add its metrics to `metric_sums`.

        Raises:
            RunFailed: the loss or the gradient's norm is not finite.
        """
        inputs = inputs_for(self.objective)(self.scorer, groups, reference, self.budget)
        inputs.teacher = self.teacher

        def work(one: Pass) -> _Done:
            with self._drawn(number, one.number) as noise, inputs.of(one.batch, noise) as given:
                output = self.objective(given)
                loss_B, weight_B = output.loss_B, output.weight_B
                total = loss_B.sum() if weight_B is None else (loss_B * weight_B).sum()
                (total if one.counts else total * 0).backward()  # type: ignore[no-untyped-call]
            weight = len(one.batch) if weight_B is None else float(weight_B.sum())
            return _Done(float(total.detach()), weight, output.metrics)

        own = MetricSums()
        memory = self.budget.memory_of(self.scorer, gradient=True)
        passes = self.budget.passes(inputs.groups, work, self.weights.drop_gradients, memory)
        for one, done in passes:
            self.weights.collect_gradients()
            if one.counts:
                own.add("loss", done.loss_sum, done.weight_sum)
                own.add_groups(done.metrics)
        self.budget.agree()
        sums = self.world.all_reduce_sums(own.sums)
        loss_sum, weight_sum = sums["loss"]
        self.world.all_reduce_gradients(self.weights.masters)
        norm = self._update(lr, weight_sum, loss_sum, groups, number)
        for name, (total, weight) in sums.items():
            metric_sums.add(name, total, weight)
        metric_sums.add("grad_norm", norm, 1)
        if self.budget.lowered is not None:
            metric_sums.add("token_budget", self.budget.lowered, 1)

    def _update(
        self,
        lr: float,
        weight_sum: float,
        loss_sum: float,
        groups: Sequence[TokenGroup],
        number: int,
    ) -> float:
        """Apply the summed gradients; return their norm before clipping."""
        gradients = self.weights.gradients()
        norm = self.world.norm(gradients) / weight_sum
        if not (math.isfinite(loss_sum) and math.isfinite(norm)):
            raise self._failed(number, groups, loss_sum / weight_sum, norm)
        scale = 1 / weight_sum
        if self.config.max_grad_norm and norm > self.config.max_grad_norm:
            scale *= self.config.max_grad_norm / norm
        torch._foreach_mul_(gradients, scale)
        for settings in self.optimizer.param_groups:
            settings["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.weights.refresh()
        return norm

    @contextmanager
    def _drawn(self, number: int, micro: int) -> Iterator[EmbeddingNoise | None]:
        """Seed dropout and yield noise of a micro-batch, from (seed, step, micro-batch, rank)."""
        place = () if self.world.is_single else (self.world.rank,)
        seed = derived_seed("step", self.config.seed, number, micro, *place)
        lora = self.config.lora
        noise = None
        if self.config.neftune_alpha:
            noise = EmbeddingNoise(self.config.neftune_alpha, torch.Generator().manual_seed(seed))
        if self.config.dropout or (lora is not None and lora.dropout):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                yield noise
        else:
            yield noise

    def _failed(
        self, number: int, groups: Sequence[TokenGroup], loss: float, norm: float
    ) -> RunFailed:
        """Write the batch of a failed step; return the error."""
        file = self.out / "failed_batch.json"
        shown = [{"id": g.id, "prompt": g.prompt_T, "responses": g.responses} for g in groups]
        if self.world.is_main:
            file.write_text(json.dumps({"step": number + 1, "groups": shown}), encoding="utf-8")
        hint = "a smaller learning rate may help"
        if number == 0 and self.world.is_single and (name := first_not_finite(self.scorer.base)):
            hint = f"the model's own weight {name} is not finite"
        return RunFailed(
            f"step {number + 1}: loss {loss}, gradient norm {norm}: not finite; its batch is in "
            f"{file}; {hint}"
        )
