"""Rollout training: the policy answers, its answers are scored, and it learns from the scores.

The generator works on the live weights, there is no copy of the model for it. The reference of
the KL is the model before its adapter, or one frozen copy of the first weights in the compute
type. Every optimiser step is the offline loop's. Everything random comes from (seed, step), so a
killed run goes on from its newest checkpoint and ends as one that was not killed.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alignlab.errors import BadInput, RunFailed
from alignlab.models import adapters
from alignlab.models.load import DTYPES, LanguageModel
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer, Scorer
from alignlab.models.values import ModelWithValueHead, save_value_head, value_head
from alignlab.objectives.rollout_batch import (
    CreditState,
    PolicyGradient,
    ValuedLogps,
    is_policy_gradient,
)
from alignlab.records import fingerprint
from alignlab.training.config import SaveDtype
from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext
from alignlab.training.environment import Environment, SampledGroup
from alignlab.training.inputs import inputs_for
from alignlab.training.metrics import MetricSums
from alignlab.training.reference_logps import weights_hash
from alignlab.training.regularise import training_mode
from alignlab.training.rollout_config import RolloutConfig
from alignlab.training.rollout_records import (
    RolloutRecord,
    as_rollouts,
    rollout_records,
    token_scores,
)
from alignlab.training.schedule import derived_seed, epoch_order, learning_rate, steps_per_epoch
from alignlab.training.step import StepRunner
from alignlab.training.trainer_state import (
    TrainerState,
    TrainingCallbacks,
    TrainResult,
    adamw,
    save_trained,
)
from alignlab.training.weights import in_training
from alignlab.types import Prompt


@dataclass(frozen=True)
class RolloutResult:
    """Result of a rollout training."""

    trained: TrainResult
    rollouts: int
    """Responses drawn."""
    drawn: int
    """Tokens of these."""
    unscored: int
    """Responses that had no score, and those left too few by that; they were not learned from."""
    state: CreditState
    """The KL penalty's last coefficient, and the rewards seen."""


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
    save_dtype: SaveDtype = "float32",
) -> RolloutResult:
    """Train a policy on its own responses; its weights change in place.

    Args:
        lm: the model to start from, which is also the reference.
        objective: gives tokens their credit, and the loss.
        prompts: what is answered, `batch_size` of them a step, in a new order every pass.
        config: every setting.
        out: folder for metrics.jsonl, checkpoint-N/ and the result, model/ (with PPO's value
            head in the same folder); a run that was killed goes on from the newest checkpoint.
        environment: samples the policy and scores its responses.
        hooks: `validate` chooses the best model; `on_step` is called after every step.
        world: the processes that train together; each calls this with the same arguments, but
            for what only the leader (process 0) is asked: the environment's `reward`, and
            `hooks`. Each samples its share of the prompts; where the weights are shared out,
            the leader samples all of them from its whole copy.
        save_dtype: type of the saved weights; "input" is the one that the model's files have.

    Raises:
        BadInput: settings without effect, or that the objective refuses.
        RunFailed: the loss is not finite, or no response could be scored.
    """
    _refuse(objective, prompts, config, hooks, world)
    started = time.perf_counter()
    out = Path(out)
    if world.is_main:
        out.mkdir(parents=True, exist_ok=True)
    start = world.broadcast_from_main(lambda: weights_hash(lm.model))
    if config.lora is not None:
        lm = adapters.attach(lm, config.lora, seed=derived_seed("lora", config.seed) % 2**32)
    padded_because = "dropout is on" if config.dropout else None
    frozen = None if adapters.is_adapted(lm.model) else _frozen(lm, config, world, padded_because)
    valued = (
        ModelWithValueHead(lm.model, value_head(lm)) if objective.takes is ValuedLogps else None
    )
    trained: Any = valued or lm.model
    weights = in_training(trained, config.dtype, world)
    try:
        scorer = inputs_for(objective).scorer_class(
            trained, padded_because=padded_because, through=weights.through
        )
        runner = StepRunner(objective, config, weights, scorer, adamw(weights, config), out, world)
        reference = _Reference(lm, frozen or scorer)
        per_epoch = steps_per_epoch(len(prompts), config)
        course = TrainerState(
            lm,
            runner,
            per_epoch=per_epoch,
            total=config.steps or per_epoch * config.epochs,
            hooks=hooks,
        )
        resumed_from = course.resume([start, fingerprint(list(prompts))])
        with training_mode(
            lm.model, dropout=config.dropout, checkpointing=config.gradient_checkpointing
        ):
            loop = _Loop(course, objective, config, prompts, environment, reference)
            loss = loop.finish()
        lm = weights.model(lm, weights.values())
    finally:
        weights.restore()
    lm = save_trained(lm, out, world, dtype=save_dtype)
    if valued is not None and world.is_main:
        save_value_head(valued.head, out / "model")
    result = course.result(lm, loss, resumed_from, time.perf_counter() - started)
    counts = loop.counts
    return RolloutResult(result, counts.rollouts, counts.drawn, counts.unscored, loop.state)


class _Reference:
    """Scores the first weights: the adapter off, or a frozen copy."""

    def __init__(self, lm: LanguageModel, scorer: Scorer[Any]) -> None:
        self._model, self._scorer = lm.model, scorer

    @contextmanager
    def scorer(self) -> Iterator[Scorer[Any]]:
        with adapters.adapter_off(self._model):
            yield self._scorer


def _frozen(
    lm: LanguageModel, config: RolloutConfig, world: DistributedContext, padded_because: str | None
) -> ResponseScorer:
    """A scorer of the first weights, copied in the compute type; shared out as the policy is."""
    model = copy.deepcopy(lm.model).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(DTYPES[config.dtype])
    through = None
    if world.sharded:
        # FSDP2 is imported where it is used: it takes a second.
        from alignlab.training.sharding import shared_out

        through = shared_out(model, world)
    return ResponseScorer(model, padded_because=padded_because, through=through)


class _Batch(NamedTuple):
    """Groups of one step with their token values."""

    groups: list[TokenGroup]
    known: list[RolloutRecord]


@dataclass(frozen=True)
class _Counts:
    """Responses of a run so far."""

    rollouts: int = 0
    unscored: int = 0
    drawn: int = 0
    """Tokens of all of them."""


class _Loop:
    """The steps of a run: draw, score, credit, update."""

    def __init__(
        self,
        course: TrainerState,
        objective: PolicyGradient,
        config: RolloutConfig,
        prompts: Sequence[Prompt],
        environment: Environment,
        reference: _Reference,
    ) -> None:
        self.course, self.objective, self.config = course, objective, config
        self.prompts, self.environment, self.reference = prompts, environment, reference
        kept = dict(course.progress.carried)
        self.counts = _Counts(**{f.name: int(kept.pop(f.name, 0)) for f in fields(_Counts)})
        self.state = CreditState(**kept) if kept else objective.start()

    def finish(self) -> float:
        """Do the steps that are left; the mean loss of the last line of metrics."""
        course = self.course
        loss = course.open()
        for step in range(course.progress.step, course.total):
            metric_sums = MetricSums(course.progress.window)
            lr = learning_rate(step, course.total, self.config)
            batch = self._batch(step, metric_sums)
            began = time.perf_counter()
            self._learn(step, batch, lr, metric_sums)
            metric_sums.add("time/learning", time.perf_counter() - began, 1)
            course.progress.carried = asdict(self.state) | asdict(self.counts)
            tokens = self.config.updates * sum(group.tokens for group in batch.groups)
            written = course.done(metric_sums, lr, tokens)
            loss = loss if written is None else written
        course.take_best()
        return loss

    def _batch(self, step: int, metric_sums: MetricSums) -> _Batch:
        """Draw and score a batch, and give its tokens their credit."""
        began = time.perf_counter()
        sampled = self._drawn(step)
        metric_sums.add("time/sampling", time.perf_counter() - began, 1)
        began = time.perf_counter()
        groups = self._scored(step, sampled, metric_sums)
        metric_sums.add("time/rewarding", time.perf_counter() - began, 1)
        budget, scorer = self.course.runner.budget, self.course.runner.scorer
        policy = budget.read(scorer, groups, token_scores)
        with self.reference.scorer() as reference:
            known = budget.read(reference, groups, token_scores)
        rollouts = as_rollouts(groups, policy, known)
        credit = self.objective.credit(rollouts, self.state)
        metric_sums.add_groups(credit.metrics)
        self.state = credit.state
        return _Batch(groups, rollout_records(groups, rollouts, credit))

    def _drawn(self, step: int) -> list[SampledGroup]:
        """The step's prompts, answered."""
        course = self.course
        epoch, within = divmod(step, course.per_epoch)
        order = epoch_order(len(self.prompts), self.config, epoch)[within]
        prompts = [self.prompts[i] for i in order]
        seed = derived_seed("rollout", self.config.seed, step)

        world, weights = course.world, course.runner.weights
        if world.sharded:
            whole = weights.model(course.lm, weights.values())
            return world.broadcast_from_main(lambda: self.environment.sample(whole, prompts, seed))
        own = prompts[world.rank :: world.size]
        drawn = self.environment.sample(course.lm, own, seed) if own else []
        shares = world.all_gather(drawn)
        return [shares[i % world.size][i // world.size] for i in range(len(prompts))]

    def _scored(
        self, step: int, sampled: list[SampledGroup], metric_sums: MetricSums
    ) -> list[TokenGroup]:
        """Groups of the responses that have a score, and enough of them.

        Raises:
            RunFailed: there is none, or a score is not a number.
        """
        seed = derived_seed("reward", self.config.seed, step)

        def rate() -> list[tuple[float | None, ...]]:
            assert self.environment.reward is not None
            return self.environment.reward(sampled, seed)

        scores = self.course.world.broadcast_from_main(rate)
        groups = [
            group
            for one, found in zip(sampled, scores, strict=True)
            if (group := self._group(one, found)) is not None
        ]
        drawn = [s for one in sampled for s in one.samples]
        learned = sum(len(group.responses) for group in groups)
        self.counts = replace(
            self.counts,
            rollouts=self.counts.rollouts + len(drawn),
            unscored=self.counts.unscored + len(drawn) - learned,
            drawn=self.counts.drawn + sum(len(s.tokens) for s in drawn),
        )
        if not groups:
            raise RunFailed(
                f"step {step + 1}: none of {len(drawn)} responses to {len(sampled)} prompts could "
                f"be learned from: {type(self.objective).__name__} needs "
                f"{self.objective.min_responses} with a score to a prompt"
            )
        known = [s for found in scores for s in found if s is not None]
        metric_sums.add("objective/scores", math.fsum(known), len(known))
        metric_sums.add("objective/unscored", len(drawn) - learned, 1)
        metric_sums.add("completions/mean_length", sum(len(s.tokens) for s in drawn), len(drawn))
        metric_sums.add("completions/clipped_ratio", sum(not s.ended for s in drawn), len(drawn))
        return groups

    def _group(self, one: SampledGroup, found: Sequence[float | None]) -> TokenGroup | None:
        """A prompt's responses with their scores; None where too few have one."""
        kept = [
            (sample.tokens, score if sample.ended else score - self.config.no_end_penalty)
            for sample, score in zip(one.samples, found, strict=True)
            if score is not None
        ]
        wrong = next((score for _, score in kept if not math.isfinite(score)), None)
        if wrong is not None:
            raise RunFailed(
                f"prompt {one.prompt.id}: expected a finite score of each response, found {wrong}"
            )
        if len(kept) < self.objective.min_responses:
            return None
        tokens, scores = zip(*kept, strict=True)
        return TokenGroup(one.prompt.id, one.prompt_T, tokens, scores)

    def _learn(self, step: int, batch: _Batch, lr: float, metric_sums: MetricSums) -> None:
        """The optimiser's steps over a batch, in a new order every pass."""
        config, done = self.config, 0
        for update in range(config.updates):
            seed = derived_seed("minibatch", config.seed, step, update)
            order = np.random.Generator(np.random.Philox(seed)).permutation(len(batch.groups))
            for part in np.array_split(order, min(config.minibatches, len(order))):
                number = step * config.updates * config.minibatches + done
                groups = [batch.groups[i] for i in part]
                known = [batch.known[i] for i in part]
                self.course.runner.step(number, groups, known, lr, metric_sums)
                done += 1


def _refuse(
    objective: PolicyGradient,
    prompts: Sequence[Prompt],
    config: RolloutConfig,
    hooks: TrainingCallbacks,
    world: DistributedContext,
) -> None:
    """Complain of what cannot work, or would have no effect."""
    name = type(objective).__name__
    if not is_policy_gradient(objective):
        raise BadInput(f"train: {name} learns from given responses, not from rollouts")
    if not prompts:
        raise BadInput("train: expected prompts to answer, found none")
    if config.responses < objective.min_responses:
        raise BadInput(
            f"train: responses: {name} compares {objective.min_responses} responses or more to a "
            f"prompt, found {config.responses}"
        )
    if objective.once and (config.updates > 1 or config.minibatches > 1):
        raise BadInput(
            f"train: updates and minibatches: {name} learns from a rollout once, by the policy "
            f"that drew it; expected 1, found {config.updates} and {config.minibatches}"
        )
    if config.validate_every and hooks.validate is None and world.is_main:
        raise BadInput("train: validate_every: expected a validation with it, found none")
    if world.sharded and objective.takes is ValuedLogps:
        raise BadInput(
            f"train: parallel: {name}'s value head cannot be shared out among processes; use "
            "parallel=data"
        )
