"""Watch that an engine samples from the model that is trained.

The mean over sampled tokens of |log p of the engine - log p of the trainer|, of the same weights,
is rounding where the engine is right: the bound is a multiple of the trainer's own rounding, the
mean of |log p in bfloat16 - log p in float32| of the first batch's tokens, measured once a run.
Weights that were not updated, or not all of them, exceed it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from alignlab.models.packed import TokenGroup
from alignlab.training.environment import Checked
from alignlab.training.importance import LogProbDifference, add_difference, difference
from alignlab.training.metrics import MetricSums
from alignlab.training.rollout_records import TokenScores, token_scores
from alignlab.training.step import StepRunner

log = logging.getLogger(__name__)

ALARM_FACTOR = 1.5
"""Mean difference that rings, in units of the trainer's own rounding."""
FILE = "sampler_alarm.json"
MEASURED = 16
"""Number of groups of the first batch on which the rounding is measured."""


class SamplerAlarm:
    """Bound on the difference of sampler and trainer, and what exceeded it.

    Args:
        runner: runner of the training's steps.
        bound: mean difference in nats that rings; None measures the trainer's own rounding.
    """

    def __init__(self, runner: StepRunner, bound: float | None) -> None:
        self._runner, self._bound = runner, bound
        self._file = runner.out / FILE

    def start(self, groups: Sequence[TokenGroup], policy: Sequence[TokenScores]) -> None:
        """Measure the trainer's own rounding on the first batch of a run; collective."""
        if self._bound is not None:
            return
        world = self._runner.world
        found = world.broadcast_from_main(lambda: _read(self._file))
        if found is None:
            found = self._rounding(groups[:MEASURED], policy[:MEASURED])
            if world.is_main:
                plain = {"rounding": found, "factor": ALARM_FACTOR}
                self._file.write_text(json.dumps(plain) + "\n", encoding="utf-8")
        self._bound = ALARM_FACTOR * found

    def drawn(
        self,
        step: int,
        groups: Sequence[TokenGroup],
        policy: Sequence[TokenScores],
        metric_sums: MetricSums,
    ) -> None:
        """Compare a batch with the trainer's log-probabilities of the weights that drew it."""
        self._judge(step, add_difference(groups, policy, metric_sums), metric_sums)

    def checked(
        self,
        step: int,
        asked: Sequence[Checked],
        answered: Sequence[tuple[float, ...]],
        batch: tuple[Sequence[TokenGroup], Sequence[TokenScores]],
        metric_sums: MetricSums,
    ) -> None:
        """Compare responses that the engine scored again by the weights of this step.

        Args:
            step: number of the step, from 1.
            asked: the responses.
            answered: the engine's log-probabilities of their tokens.
            batch: groups of the step with the trainer's log-probabilities before its update.
        """
        known = _by_response(*batch)
        both = [
            (logp_R.new_tensor(logps), logp_R)
            for one, logps in zip(asked, answered, strict=True)
            if logps and (logp_R := known.get(one)) is not None  # an unscored one is not trained on
        ]
        if both:
            ones, others = zip(*both, strict=True)
            found = difference(ones, others)
            found.add_to(metric_sums)
            self._judge(step, found, metric_sums)

    def _judge(self, step: int, found: LogProbDifference, metric_sums: MetricSums) -> None:
        bound = self._bound
        assert bound is not None
        rings = not found.mean <= bound  # NaN rings too
        metric_sums.add("sampler/bound", bound, 1)
        metric_sums.add("sampler/alarm", float(rings), 1)
        if rings and self._runner.world.is_main:
            log.warning(
                "step %d: the engine samples from another model than the one in training: mean "
                "difference of log-probabilities %.3g nats per token, expected at most %.3g "
                "(largest %.3g)", step, found.mean, bound, found.largest,
            )  # fmt: skip

    def _rounding(self, groups: Sequence[TokenGroup], policy: Sequence[TokenScores]) -> float:
        """Compare the trainer's log-probabilities in its type with those of the other type."""
        runner = self._runner
        other = "float32" if runner.config.dtype == "bfloat16" else "bfloat16"
        with runner.weights.cast_to(other):
            found = runner.budget.read(runner.scorer, groups, token_scores)
        return difference([s.logp_R for s in policy], [s.logp_R for s in found]).mean


def _by_response(
    groups: Sequence[TokenGroup], policy: Sequence[TokenScores]
) -> dict[Checked, Tensor]:
    """Return the trainer's log-probabilities of each response's tokens."""
    found: dict[Checked, Tensor] = {}
    for group, scored in zip(groups, policy, strict=True):
        parts = torch.split(scored.logp_R, [len(response) for response in group.responses])
        found |= {
            Checked(group.prompt_T, r): p for r, p in zip(group.responses, parts, strict=True)
        }
    return found


def _read(file: Path) -> float | None:
    if not file.is_file():
        return None
    return float(json.loads(file.read_text(encoding="utf-8"))["rounding"])
