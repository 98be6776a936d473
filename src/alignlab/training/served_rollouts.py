"""Train on what an engine draws: at once or one step ahead, corrected and watched.

One step ahead, the engine draws the next batch by the weights before the step, while the step is
learned. Before that it scores some responses of the step again, by the same weights: the alarm
compares equal weights, also where those that drew are a step old.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from alignlab.models.packed import TokenGroup
from alignlab.objectives.rollout_batch import PolicyGradient
from alignlab.training.drawn_rollouts import Place
from alignlab.training.environment import Checked, Environment, SampledGroup
from alignlab.training.importance import weighted
from alignlab.training.metrics import MetricSums
from alignlab.training.mismatch import SamplerAlarm
from alignlab.training.rollout_config import IMPORTANCE_CAP, RolloutConfig
from alignlab.training.rollout_records import RolloutRecord, TokenScores
from alignlab.training.samplers import EngineSampler
from alignlab.training.trainer_state import TrainerState
from alignlab.types import Prompt

CHECKED = 4
"""Number of prompts of a step of which an engine that is ahead scores a response again."""


class Coming(NamedTuple):
    """Prompts of a coming step."""

    prompts: Sequence[Prompt]
    seed: int
    """Seed of the responses."""


class ServedRollouts:
    """Rollouts of a training by an engine; methods are collective.

    Args:
        trainer: the training.
        objective: its objective.
        config: its settings.
        environment: environment with the engine.
        coming: function from the index of a step to its prompts; None after the last step.
    """

    def __init__(
        self,
        trainer: TrainerState,
        objective: PolicyGradient,
        config: RolloutConfig,
        environment: Environment,
        coming: Callable[[int], Coming | None],
    ) -> None:
        self._objective, self._config, self._coming = objective, config, coming
        self._sampler = EngineSampler(trainer, environment, config.ahead)
        self._alarm = SamplerAlarm(trainer.runner, config.mismatch_alarm)
        self._staleness = 0

    def draw(
        self, place: Place, prompts: Sequence[Prompt], seed: int, metric_sums: MetricSums
    ) -> list[SampledGroup]:
        """Return a step's responses; one step ahead, ask for those of the next."""
        sampled = self._sampler.draw(place, prompts, seed, metric_sums)
        self._staleness = max(one.staleness for one in sampled)
        metric_sums.add("sampler/staleness", self._staleness, 1)
        step, _ = place  # from 1, which is the index of the next one
        if self._config.ahead and (coming := self._coming(step)) is not None:
            again = [Checked(g.prompt_T, g.samples[0].tokens) for g in sampled[:CHECKED]]
            self._sampler.begin((step + 1, 0), *coming, again, metric_sums)
        return sampled

    def corrected(
        self,
        step: int,
        groups: Sequence[TokenGroup],
        policy: Sequence[TokenScores],
        records: Sequence[RolloutRecord],
        metric_sums: MetricSums,
    ) -> list[RolloutRecord]:
        """Compare a batch with the trainer, and weight its advantages by importance.

        Args:
            step: index of the step.
            groups: the batch.
            policy: the trainer's scores before the step.
            records: values of the batch's tokens.
            metric_sums: sums of the step's metrics.
        """
        self._alarm.start(groups, policy)
        if not self._staleness:
            self._alarm.drawn(step + 1, groups, policy, metric_sums)
        found = weighted(
            groups,
            policy,
            records,
            cap=self._config.importance_cap or IMPORTANCE_CAP,
            by_response=self._objective.by_response,
        )
        metric_sums.add("sampler/importance", float(found.weight.sum()), len(found.weight))
        metric_sums.add("sampler/truncated", float(found.truncated.sum()), len(found.weight))
        return found.records

    def finish(
        self,
        step: int,
        groups: Sequence[TokenGroup],
        policy: Sequence[TokenScores],
        metric_sums: MetricSums,
    ) -> None:
        """Wait for the batch that was drawn during the step, and commit it."""
        if not self._config.ahead:
            return
        began = time.perf_counter()
        asked, answered = self._sampler.finish()
        metric_sums.add("time/waiting", time.perf_counter() - began, 1)
        self._alarm.checked(step + 1, asked, answered, (groups, policy), metric_sums)
