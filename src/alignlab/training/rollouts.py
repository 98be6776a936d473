"""Train a policy on its own scored responses by a policy-gradient objective.

Responses are sampled from the live weights, without a copy of the model, or by an engine whose
weights follow them (`samplers.py`). The reference of the KL
is the model without its adapter, or one frozen copy of the initial weights in the compute type.
Optimiser steps are those of offline training (`StepRunner`). All randomness derives from (seed,
step): a killed run resumes from its newest checkpoint and ends as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alignlab.errors import RunFailed
from alignlab.models import adapters
from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import Scorer
from alignlab.models.values import ModelWithValueHead, save_value_head, value_head
from alignlab.objectives.rollout_batch import (
    CreditState,
    PolicyGradient,
    ValuedLogps,
)
from alignlab.records import fingerprint
from alignlab.text import distinct_share
from alignlab.training import rollout_samples
from alignlab.training.config import SaveAs
from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext
from alignlab.training.environment import Environment, Reward, SampledGroup
from alignlab.training.importance import add_difference
from alignlab.training.metrics import MetricSums
from alignlab.training.reference_logps import frozen_reference
from alignlab.training.rollout_checks import refuse_rollouts
from alignlab.training.rollout_config import RolloutConfig
from alignlab.training.rollout_records import (
    RolloutRecord,
    TokenScores,
    as_rollouts,
    rollout_records,
    token_scores,
)
from alignlab.training.rollout_samples import SamplesFile
from alignlab.training.samplers import LocalSampler
from alignlab.training.schedule import derived_seed, epoch_order, learning_rate, steps_per_epoch
from alignlab.training.served_rollouts import Coming, ServedRollouts
from alignlab.training.step_rewards import rewarded_group, steps_of, total
from alignlab.training.trainer_state import (
    TrainerState,
    TrainingCallbacks,
    TrainResult,
    begin,
    step_runner,
    with_dtype,
)
from alignlab.types import Prompt

REPEATED = 4
"""Tokens of the n-grams whose repetition within a response is logged."""


@dataclass(frozen=True)
class RolloutResult:
    """Result of a rollout training."""

    trained: TrainResult
    rollouts: int
    """Responses drawn."""
    drawn: int
    """Tokens of these responses."""
    unscored: int
    """Responses not learned from: without a score, or too few of their prompt with one."""
    thoughts: int
    """Responses that held reasoning."""
    thoughts_alone: int
    """Responses of reasoning without an answer, whose empty text was scored."""
    state: CreditState
    """Last KL coefficient and reward statistics."""
    replaced: int = 0
    """Responses to prompts of equal scores, left out for others (`refills`)."""


def train_rollouts(
    lm: LanguageModel,
    objective: PolicyGradient,
    prompts: Sequence[Prompt],
    config: RolloutConfig,
    out: str | Path,
    *,
    environment: Environment,
    hooks: TrainingCallbacks = TrainingCallbacks(),  # noqa: B008 - it is frozen
    world: DistributedContext = SINGLE_PROCESS,
    save_dtype: SaveAs = "float32",
) -> RolloutResult:
    """Train a policy on its own responses; its weights change in place.

    Args:
        lm: initial model, which is also the reference.
        objective: credit assignment and loss.
        prompts: prompts to answer, `batch_size` per step, in a new order every pass.
        config: settings of the loop and of sampling.
        out: folder for metrics.jsonl, rollout_samples.jsonl, checkpoint-N/ and the result, model/
            (with PPO's value head in it); a killed run resumes from its newest checkpoint.
        environment: sampler of the policy, and reward of its responses.
        hooks: validation that chooses the best model, and a callback after every step.
        world: processes that train together; each calls this function with the same arguments.
            The environment's reward and `hooks` are used on the main rank only. Each rank samples
            its share of the prompts; with sharded weights all ranks make each pass together.
        save_dtype: type of the saved weights; "input" is the type in the model's files, and
            "adapter" saves an adapter alone, which is not merged.

    Raises:
        BadInput: settings without effect, or that the objective refuses.
        RunFailed: the loss is not finite, or no response could be scored.
    """
    refuse_rollouts(objective, prompts, config, hooks, world)
    started = time.perf_counter()
    out = Path(out)
    config = with_dtype(config, lm, world)
    lm, start = begin(lm, config, out, world)
    frozen = None if adapters.is_adapted(lm.model) else frozen_reference(lm, config, world)
    valued = (
        ModelWithValueHead(lm.model, value_head(lm)) if objective.takes is ValuedLogps else None
    )
    model = valued or lm.model
    alone = save_dtype == "adapter"
    with step_runner(model, objective, config, out, world, lm, alone=alone) as runner:
        responses = ((0,) * config.max_tokens,) * config.responses
        runner.plan([TokenGroup("of the longest responses", (0,), responses)])
        per_epoch = steps_per_epoch(len(prompts), config)
        state = TrainerState(
            lm,
            runner,
            per_epoch=per_epoch,
            total=config.steps or per_epoch * config.epochs,
            hooks=hooks,
        )
        loop = _Loop(state, objective, config, prompts, environment, frozen or runner.scorer)
        state.run([start, fingerprint(list(prompts))], loop.steps)
        head = None if valued is None else runner.weights.values("head.")
    result = state.saved(save_dtype, started)
    if head and world.is_main:
        save_value_head(head, out / "model")
    counts = loop.counts
    return RolloutResult(
        result,
        counts.rollouts,
        counts.drawn,
        counts.unscored,
        counts.thoughts,
        counts.thoughts_alone,
        loop.credit_state,
        counts.replaced,
    )


class _Batch(NamedTuple):
    """Groups of a step with their token values."""

    groups: list[TokenGroup]
    known: list[RolloutRecord]
    policy: list[TokenScores]
    """Scores under the weights before the step."""


@dataclass(frozen=True)
class _Counts:
    """Counts of a run's responses so far."""

    rollouts: int = 0
    unscored: int = 0
    drawn: int = 0
    """Tokens of all responses."""
    thoughts: int = 0
    thoughts_alone: int = 0
    replaced: int = 0
    """Responses to prompts of equal scores, left out for others."""


class _Loop:
    """Steps of a rollout training: sample, score, assign credit, update."""

    def __init__(
        self,
        state: TrainerState,
        objective: PolicyGradient,
        config: RolloutConfig,
        prompts: Sequence[Prompt],
        environment: Environment,
        reference: Scorer[Any],
    ) -> None:
        self.trainer, self.objective, self.config = state, objective, config
        self.prompts, self.environment, self.reference = prompts, environment, reference
        self.counts, self.credit_state = _Counts(), objective.start()

    def steps(self) -> float:
        """Do the remaining steps; return the mean loss of the last line of metrics."""
        trainer = self.trainer
        if carried := dict(trainer.progress.carried):
            self.counts = _Counts(**{f.name: int(carried.pop(f.name, 0)) for f in fields(_Counts)})
            self.credit_state = CreditState(**carried)
        loss = trainer.open()
        file = self.trainer.out / rollout_samples.FILE
        writes = trainer.world.is_main
        self.samples = SamplesFile(file, trainer.progress.step, writes=writes)
        self.local, self.served = LocalSampler(trainer, self.environment), None
        if self.config.serves:
            self.served = ServedRollouts(
                trainer, self.objective, self.config, self.environment, self._coming
            )
        for step in range(trainer.progress.step, trainer.total):
            metric_sums, started = MetricSums(trainer.progress.window), time.perf_counter()
            lr = learning_rate(step, trainer.total, self.config)
            batch = self._batch(step, metric_sums)
            began = time.perf_counter()
            self._learn(step, batch, lr, metric_sums)
            metric_sums.add("time/learning", time.perf_counter() - began, 1)
            if self.served is not None:
                self.served.finish(step, batch.groups, batch.policy, metric_sums)
            metric_sums.add("time/seconds_per_step", time.perf_counter() - started, 1)
            trainer.progress.carried = asdict(self.credit_state) | asdict(self.counts)
            tokens = self.config.updates * sum(group.tokens for group in batch.groups)
            written = trainer.done(metric_sums, lr, tokens)
            loss = loss if written is None else written
        trainer.take_best()
        return loss

    def _batch(self, step: int, metric_sums: MetricSums) -> _Batch:
        """Sample and score a batch, and assign credit to its tokens."""
        groups = self._sampled(step, metric_sums)
        budget, scorer = self.trainer.runner.budget, self.trainer.runner.scorer
        policy = budget.read(scorer, groups, token_scores)
        # The adapter's base is the reference; a frozen copy has no adapter to disable.
        with adapters.adapter_off(self.trainer.lm.model):
            known = budget.read(self.reference, groups, token_scores)
        rollouts = as_rollouts(groups, policy, known)
        credit = self.objective.credit(rollouts, self.credit_state)
        metric_sums.add_groups(credit.metrics)
        self.credit_state = credit.state
        records = rollout_records(groups, rollouts, credit)
        if self.served is not None:
            records = self.served.corrected(step, groups, policy, records, metric_sums)
        elif all(group.drawn_logps for group in groups):
            add_difference(groups, policy, metric_sums)
        return _Batch(groups, records, policy)

    def _sampled(self, step: int, metric_sums: MetricSums) -> list[TokenGroup]:
        """Sample and score a step's responses; with `refills`, replace prompts of equal scores.

        Without enough others, the step trains on fewer groups; without any, on those of equal
        scores.
        """
        config, first = self.config, self._prompts(step)
        others = self._others(step, first) if config.refills else iter(())
        useful: list[TokenGroup] = []
        equal: list[TokenGroup] = []
        for refill in range(1 + config.refills):
            prompts = list(islice(others, len(first) - len(useful))) if refill else first
            if not prompts:
                break
            for group in self._draw(step, refill, prompts, metric_sums):
                teaches = not config.refills or len(set(group.rewards or group.scores)) > 1
                (useful if teaches else equal).append(group)
        groups, left = (useful, equal) if useful else (equal, [])
        if config.refills:
            replaced = sum(len(group.responses) for group in left)
            self.counts = replace(self.counts, replaced=self.counts.replaced + replaced)
            metric_sums.add("objective/replaced", len(left), 1)
        return groups

    def _draw(
        self, step: int, refill: int, prompts: Sequence[Prompt], metric_sums: MetricSums
    ) -> list[TokenGroup]:
        """Sample and score responses to prompts; return groups with enough scored ones."""
        place = (step, refill) if refill else (step,)
        began = time.perf_counter()
        seed = derived_seed("rollout", self.config.seed, *place)
        sampler = self.served or self.local
        sampled = sampler.draw((step + 1, refill), prompts, seed, metric_sums)
        metric_sums.add("time/sampling", time.perf_counter() - began, not refill)
        began = time.perf_counter()
        groups = self._scored(place, sampled, metric_sums)
        metric_sums.add("time/rewarding", time.perf_counter() - began, not refill)
        return groups

    def _prompts(self, step: int) -> list[Prompt]:
        """Return the prompts of a step."""
        epoch, within = divmod(step, self.trainer.per_epoch)
        order = epoch_order(len(self.prompts), self.config, epoch)[within]
        return [self.prompts[i] for i in order]

    def _coming(self, step: int) -> Coming | None:
        """Return the prompts of a coming step, and the seed of its draws; None after the last."""
        if step >= self.trainer.total:
            return None
        return Coming(self._prompts(step), derived_seed("rollout", self.config.seed, step))

    def _others(self, step: int, first: Sequence[Prompt]) -> Iterator[Prompt]:
        """Yield the other prompts in an order drawn for the step."""
        seed = derived_seed("refill", self.config.seed, step)
        order = np.random.Generator(np.random.Philox(seed)).permutation(len(self.prompts))
        drawn = {prompt.id for prompt in first}
        return (self.prompts[i] for i in order if self.prompts[i].id not in drawn)

    def _scored(
        self, place: tuple[int, ...], sampled: list[SampledGroup], metric_sums: MetricSums
    ) -> list[TokenGroup]:
        """Score responses; return groups with enough scored ones.

        Args:
            place: the step, and the number of its refill if it is one.
            sampled: prompts with their responses.
            metric_sums: sums of the step's metrics.

        Raises:
            RunFailed: no group of the step's own prompts is left, or a score is not finite.
        """
        refill = len(place) > 1
        seed = derived_seed("reward", self.config.seed, *place)

        def rate() -> list[tuple[Reward, ...]]:
            assert self.environment.reward is not None
            return self.environment.reward(sampled, seed)

        rewards = self.trainer.world.broadcast_from_main(rate)
        groups = [
            group
            for one, found in zip(sampled, rewards, strict=True)
            if (group := self._group(one, found)) is not None
        ]
        scores = [tuple(map(total, found)) for found in rewards]
        drawn = [s for one in sampled for s in one.samples]
        learned = sum(len(group.responses) for group in groups)
        alone = sum(s.thought and not s.text for s in drawn)
        self.counts = replace(
            self.counts,
            rollouts=self.counts.rollouts + len(drawn),
            unscored=self.counts.unscored + len(drawn) - learned,
            drawn=self.counts.drawn + sum(len(s.tokens) for s in drawn),
            thoughts=self.counts.thoughts + sum(s.thought for s in drawn),
            thoughts_alone=self.counts.thoughts_alone + alone,
        )
        if not groups and not refill:
            raise RunFailed(
                f"step {place[0] + 1}: none of {len(drawn)} responses to {len(sampled)} prompts "
                f"could be learned from: {type(self.objective).__name__} needs "
                f"{self.objective.min_responses} with a score to a prompt"
            )
        if not refill:
            self.samples.write(place[0] + 1, sampled, scores)
        known = [s for found in scores for s in found if s is not None]
        metric_sums.add("objective/scores", math.fsum(known), len(known))
        metric_sums.add("objective/unscored", len(drawn) - learned, not refill)
        if steps := [n for found in rewards for n in map(steps_of, found) if n]:
            metric_sums.add("completions/steps", sum(steps), len(steps))
        metric_sums.add("completions/mean_length", sum(len(s.tokens) for s in drawn), len(drawn))
        repeated = math.fsum(1 - distinct_share(s.tokens, REPEATED) for s in drawn)
        metric_sums.add("completions/repetition", repeated, len(drawn))
        metric_sums.add("completions/thoughts", sum(s.thought for s in drawn), len(drawn))
        metric_sums.add("completions/thoughts_alone", alone, len(drawn))
        metric_sums.add("completions/clipped_ratio", sum(not s.ended for s in drawn), len(drawn))
        return groups

    def _group(self, one: SampledGroup, found: Sequence[Reward]) -> TokenGroup | None:
        """Return a prompt's rewarded responses as a group; None where they are too few."""
        group = rewarded_group(one, found, self.config.no_end_penalty)
        few = group is None or len(group.responses) < self.objective.min_responses
        return None if few else group

    def _learn(self, step: int, batch: _Batch, lr: float, metric_sums: MetricSums) -> None:
        """Do the optimiser's steps over a batch, in a new order every pass."""
        config, done = self.config, 0
        for update in range(config.updates):
            seed = derived_seed("minibatch", config.seed, step, update)
            order = np.random.Generator(np.random.Philox(seed)).permutation(len(batch.groups))
            for part in np.array_split(order, min(config.minibatches, len(order))):
                number = step * config.updates * config.minibatches + done
                groups = [batch.groups[i] for i in part]
                known = [batch.known[i] for i in part]
                self.trainer.runner.step(number, groups, known, lr, metric_sums)
                done += 1
