"""Search the learning rate of every trained branch alike, on prompts used for nothing else."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from alignlab.configs import Bounded, Positive, PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput, RunFailed
from alignlab.measuring.measure import PerPromptMetric
from alignlab.protocols import FeedbackSource
from alignlab.recipes.study import C, Study, StudyConfig, WarmStart
from alignlab.released import release_weights
from alignlab.runs import Run
from alignlab.stages.judge import judge, scores
from alignlab.stages.sample import answer
from alignlab.training.selection import is_better
from alignlab.types import Checkpoint, Prompt


@dataclass(frozen=True)
class TuneSettings(Bounded):
    """Search of learning rates at an equal budget for every trained branch."""

    lrs: tuple[Positive, ...] = ()
    """Learning rates that every trained branch tries; it keeps the model whose answers the critic
    scores highest. Empty searches none."""
    prompts: PositiveInt = 100
    """Number of the data's own prompts, used for nothing else, that the tried models answer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.lrs)) != len(self.lrs) or len(self.lrs) == 1:
            raise BadInput(
                f"setting tune.lrs: expected two or more different rates, found {self.lrs}"
            )
        if not self.lrs and self.prompts != TuneSettings.prompts:
            raise BadInput("setting tune.prompts: has no effect without tune.lrs; leave it out")


def hold_out(start: WarmStart, count: int, setting: str) -> tuple[WarmStart, tuple[Prompt, ...]]:
    """Reserve the last of the data's own prompts, which feedback then leaves out.

    Raises:
        BadInput: the data has no more prompts than that; the message names the setting.
    """
    kept = len(start.prompts) - count
    if count and kept < 1:
        raise BadInput(
            f"setting {setting}: expected fewer than the data's {len(start.prompts)} prompts, "
            f"found {count}"
        )
    return replace(start, prompts=start.prompts[:kept]), start.prompts[kept:]


def search(
    study: Study[C],
    rates: Sequence[float],
    train: Callable[[Study[C], float], Checkpoint],
    critic: FeedbackSource,
) -> tuple[Checkpoint, list[PerPromptMetric]]:
    """Train at every rate, and keep the model whose answers score highest (the first of equals).

    Two models are compared on the prompts that both have a score for.

    Weights of the other models are deleted; their answers and scores stay.

    Args:
        train: study in a scope of its own, learning rate -> model.

    Returns:
        The model, and the scores of all by prompt.
    """
    recorder = study.context.recorder
    tried: list[tuple[Checkpoint, PerPromptMetric, Run]] = []
    for rate in rates:
        step = study.scope(f"lr-{rate:g}")
        planned = len(recorder.trained) if recorder else 0
        model = train(step, rate)
        if recorder and tried:  # the weights of one model take disk space
            del recorder.trained[planned:]
        tried.append((model, _scores(step.context, model, critic, study, rate), step.context.run))
    best = tried[0]
    for one in tried[1:]:
        if is_better(_by_prompt(one[1]), _by_prompt(best[1]), f"{one[0].name}, {one[1].metric}"):
            best = one
    for other in tried:
        if other is not best:
            release_weights(other[2].stages_folder)
    return best[0], [values for _, values, _ in tried]


def _by_prompt(metric: PerPromptMetric) -> dict[str, float]:
    """Return prompt id -> mean value."""
    values = defaultdict[str, list[float]](list)
    for prompt_id, value in zip(metric.prompt_ids, metric.values, strict=True):
        values[prompt_id].append(value)
    return {prompt_id: statistics.fmean(of) for prompt_id, of in values.items()}


def _scores(
    context: RunContext,
    model: Checkpoint,
    critic: FeedbackSource,
    study: Study[StudyConfig],
    rate: float,
) -> PerPromptMetric:
    """Score a model's answers to the prompts of the search.

    Raises:
        RunFailed: the critic could score none.
    """
    prompts = study.start.validation
    responses = answer(context, context.engine(model), prompts, study.config.sample)
    feedback = judge(context, critic, prompts, responses, name="judge-tuning")
    known, by_id = scores(feedback), {r.id: r.prompt_id for r in responses}
    if not known:
        raise RunFailed(f"{critic.name} could score no answer of {model.name} at {rate:g}")
    ids = tuple(by_id[key] for key in known)
    lost = len(responses) - len(known)
    return PerPromptMetric(
        model.name, "tuning", f"score at {rate:g}", ids, tuple(known.values()), unscored=lost
    )
