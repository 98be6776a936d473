"""Track over-optimisation: reward, gold score and KL divergence of a policy at every step.

A second source scores the responses drawn for training, without effect on the policy. Reward that
rises while the gold score falls is over-optimisation (arXiv 2210.10760).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alignlab.context import RunContext
from alignlab.errors import BadInput, RunFailed
from alignlab.protocols import FeedbackSource
from alignlab.runs import RecordFile, slug
from alignlab.stages.rollout import RolloutLesson, rollout, rollout_seed
from alignlab.training.schedule import derived_seed
from alignlab.types import Checkpoint, Drift, Feedback, Prompt, Response, Score

if TYPE_CHECKING:
    from alignlab.training.trainer_state import Validate


@dataclass(frozen=True)
class Watched:
    """Mean reward and mean gold score of responses drawn together, a step's own or a refill's."""

    reward: float | None
    truth: float | None
    n: int
    seed: int | None = None
    """Seed of their rewards, which tells the step; None in older runs."""


class WatchedTraining(NamedTuple):
    """Trained policy with its over-optimisation by step."""

    checkpoint: Checkpoint
    drift: tuple[Drift, ...]
    """One record per step."""


class WatchedReward:
    """Reward source that also records the gold scores of the responses."""

    def __init__(
        self, reward: FeedbackSource, truth: FeedbackSource | None, file: RecordFile[Watched]
    ) -> None:
        self.name = reward.name
        self._reward, self._truth, self._file = reward, truth, file

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return the reward's feedback; a step repeated after a kill is recorded once."""
        feedback = self._reward.rate(items, seed)
        if str(seed) not in self._file.units:
            true = [] if self._truth is None else self._truth.rate(items, seed)
            rewards, gold = _scores(feedback), _scores(true)
            noted = Watched(_mean(rewards), _mean(gold), len(rewards), seed)
            self._file.append(str(seed), [noted])
        return feedback


class _Both:
    """Reward that also calls the gold source, as the plan of a watched training."""

    def __init__(self, reward: FeedbackSource, truth: FeedbackSource) -> None:
        self.name = reward.name
        self._sources = (reward, truth)

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return the reward's feedback."""
        feedback, _ = (source.rate(items, seed) for source in self._sources)
        return feedback


def watched_rollout(
    context: RunContext,
    parent: Checkpoint,
    prompts: Sequence[Prompt],
    reward: FeedbackSource,
    lesson: RolloutLesson,
    *,
    name: str,
    made: str = "",
    truth: FeedbackSource | None = None,
    validate: Validate | None = None,
) -> WatchedTraining:
    """Train as `rollout` does, and write a `Drift` for every step.

    Raises:
        BadInput: the settings do not log every step.
    """
    if lesson.config.log_every != 1:
        raise BadInput(
            f"setting rollout.log_every: expected 1, so that every step is shown, found "
            f"{lesson.config.log_every}"
        )
    if context.recorder:
        source = _Both(reward, truth) if truth else reward
        planned = rollout(
            context, parent, prompts, source, lesson, name=name, made=made, validate=validate
        )
        return WatchedTraining(planned, ())
    with context.run.stage(f"drift-{slug(name)}", inputs={"reward": reward.name}) as stage:
        file = stage.records("watched", Watched)
        seed = rollout_seed(context, name, lesson.config)
        source = WatchedReward(reward, truth, file)
        learned = rollout(
            context, parent, prompts, source, lesson, name=name, made=made, validate=validate
        )
        noted = _drift(context, learned, _by_step(file.read(), lesson.config.refills, seed))
        if not stage.done:
            stage.write("drift", Drift, noted)
        return WatchedTraining(learned, tuple(noted))


def _by_step(watched: Sequence[Watched], refills: int, seed: int) -> list[Watched]:
    """Join what was drawn in the same step: its own responses and those of its refills.

    Args:
        refills: most refills of a step.
        seed: seed of the training.

    Raises:
        RunFailed: the records are of a version that did not note their seeds.
    """
    if not refills:
        return list(watched)
    if any(one.seed is None for one in watched):
        raise RunFailed(
            "rollout.refills: rewards of this training were noted by an older version, which "
            "cannot tell steps from refills; start the study in a new folder"
        )
    by_seed, joined, step = {w.seed: w for w in watched}, list[Watched](), 0
    while True:
        places = ((step,), *((step, refill) for refill in range(1, refills + 1)))
        drawn = [derived_seed("reward", seed, *place) for place in places]
        found = [by_seed[one] for one in drawn if one in by_seed]
        if not found:
            return joined
        rewards, truths = [(w.reward, w.n) for w in found], [(w.truth, w.n) for w in found]
        joined.append(Watched(_weighted(rewards), _weighted(truths), sum(w.n for w in found)))
        step += 1


def _weighted(means: Sequence[tuple[float | None, int]]) -> float | None:
    """Return the mean of means, weighted by their numbers of responses; None without any."""
    known = [(mean, n) for mean, n in means if mean is not None and n]
    total = sum(n for _, n in known)
    return sum(mean * n for mean, n in known) / total if total else None


def _drift(context: RunContext, learned: Checkpoint, watched: Sequence[Watched]) -> list[Drift]:
    lines = Path(learned.path).with_name("metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    return [
        Drift(learned.name, m["step"], m["objective/kl"], w.reward, w.truth, w.n, context.seed)
        for m, w in zip(logged, watched, strict=True)
    ]


def _scores(feedback: Sequence[Feedback]) -> list[float]:
    return [f.verdict.value for f in feedback if isinstance(f.verdict, Score)]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
