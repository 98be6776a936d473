"""Measure held-out preference accuracy of a trained model and of two simple guesses.

A comparison is a pair of a group's responses with different scores. The guesses: the longer
response (in characters) wins; the response of the model that won more comparisons of the training
data wins. Equal values are half a win.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations

import torch

from alignlab.context import RunContext
from alignlab.evaluation.metrics.intervals import Interval, bootstrap_mean
from alignlab.evaluation.result_rows import Subject
from alignlab.measuring.measure import PerPromptMetric
from alignlab.models.heads import load_reward_model, rewards
from alignlab.models.logprobs import response_logprobs
from alignlab.models.packed import TokenGroup
from alignlab.objectives.base import (
    GroupLogps,
    GroupRewards,
    LabelledLogps,
    Objective,
    input_of,
    log_ratios_BK,
    reward_metrics,
)
from alignlab.training.config import LengthSettings
from alignlab.training.token_groups import prepare
from alignlab.types import Checkpoint, Count, EvalResult, PreferenceGroup, Response

BENCHMARK = "held_out_preferences"
LONGER = "longer wins"
IDENTITY = "model identity"
MARGIN = "rewards/margins"


def held_out(
    context: RunContext,
    objective: Objective,
    models: tuple[Checkpoint, Checkpoint],
    data: tuple[Sequence[PreferenceGroup], Sequence[PreferenceGroup]],
    lengths: LengthSettings,
) -> list[EvalResult]:
    """Compute preference accuracy with bootstrap intervals over prompts.

    Args:
        objective: defines a model's reward of a response; without one (imitation) nothing is
            measured.
        models: before training (the reference) and after. The reference is measured too if rewards
            are not relative to it.
        data: the training groups and the held-out ones.
        lengths: as in training; longer groups are dropped and counted, or their texts cut; groups
            that the chat template refuses are dropped and counted. The first guess uses whole
            texts.
    """
    before, after = models
    known, tested = data
    with context.run.stage(
        "held-out", inputs={"model": after.name, "groups": str(len(tested))}
    ) as s:
        file = s.records("results", EvalResult)
        if "all" not in file.units:
            measured, groups, counts = _compared(context, before, tested, lengths)
            s.count([replace(count, stage=s.name) for count in counts])
            rewarded = _rewarded(context, objective, models, groups)
            file.append("all", _rows(rewarded, measured, known, context.seed))
        return file.read()


def held_out_values(
    context: RunContext,
    objective: Objective,
    models: tuple[Checkpoint, Checkpoint],
    data: tuple[Sequence[PreferenceGroup], Sequence[PreferenceGroup]],
    lengths: LengthSettings,
) -> tuple[PerPromptMetric, ...]:
    """Return the outcomes of `held_out` comparison by comparison, so that seeds can be pooled."""
    if context.recorder:
        return ()
    after, tested = models[1], data[1]
    inputs = {"model": after.name, "groups": str(len(tested))}
    with context.run.stage("held-out-values", inputs=inputs) as stage:
        return tuple(
            stage.once(
                "values",
                PerPromptMetric,
                lambda: _values(context, objective, models, data, lengths),
                title=context.title(f"held-out groups by {after.name}"),
            )
        )


def _values(
    context: RunContext,
    objective: Objective,
    models: tuple[Checkpoint, Checkpoint],
    data: tuple[Sequence[PreferenceGroup], Sequence[PreferenceGroup]],
    lengths: LengthSettings,
) -> tuple[PerPromptMetric, ...]:
    before, after = models
    known, tested = data
    measured, groups, _ = _compared(context, before, tested, lengths)
    ids = tuple(g.prompt.cluster for g in measured for _ in _pairs(g.scores))
    rewarded = _rewarded(context, objective, models, groups)
    if not rewarded:
        return ()
    guesses = _guesses(measured, known)
    won = rewarded[after.name]
    alone = {after.name: won, **guesses}
    return tuple(
        PerPromptMetric(name, BENCHMARK, "accuracy", ids, tuple(values))
        for name, values in alone.items()
    ) + tuple(
        PerPromptMetric(
            after.name,
            BENCHMARK,
            "accuracy_difference",
            ids,
            tuple(a - b for a, b in zip(won, values, strict=True)),
            against=guess,
        )
        for guess, values in guesses.items()
    )


def _compared(
    context: RunContext,
    before: Checkpoint,
    tested: Sequence[PreferenceGroup],
    lengths: LengthSettings,
) -> tuple[list[PreferenceGroup], list[TokenGroup], list[Count]]:
    """Return the held-out groups that can be compared, with their tokens and the counts."""
    ordered = [g for g in tested if _pairs(g.scores)]
    equal = len(tested) - len(ordered)
    counted = Count("", "groups", len(ordered), {"equal scores": equal} if equal else {}, {})
    groups, tally = prepare(context.load(before), ordered, drop_bad=True, **asdict(lengths))
    left = {g.id for g in groups}
    return [g for g in ordered if g.id in left], list(groups), [counted, tally]


def _pairs(scores: Sequence[float]) -> list[tuple[int, int]]:
    """Return indices of a better and a worse response for all of a group's comparisons."""
    return [(i, j) for i, j in combinations(range(len(scores)), 2) if scores[i] > scores[j]]


def _rewarded(
    context: RunContext,
    objective: Objective,
    models: tuple[Checkpoint, Checkpoint],
    groups: Sequence[TokenGroup],
) -> dict[str, list[float]]:
    """Return model -> outcome of every comparison, by group; empty without rewards."""
    before, after = models
    if input_of(objective) is GroupRewards:
        judge = load_reward_model(
            after.path,
            device=context.hardware.device,
            dtype=context.hardware.dtype,
            chat_template=context.chat_template,
        )
        return {after.name: _outcomes(rewards(judge, groups), groups)}
    if not issubclass(input_of(objective), GroupLogps | LabelledLogps):
        return {}
    policy, first = _sums(context, after, groups), _sums(context, before, groups)
    if objective.needs_reference:
        found = {after.name: _margins(objective, groups, policy, first)}
    else:
        found = {
            after.name: _margins(objective, groups, policy, None),
            before.name: _margins(objective, groups, first, None),
        }
    return {name: [outcome_of(m) for m in made] for name, made in found.items() if made}


def _sums(
    context: RunContext, model: Checkpoint, groups: Sequence[TokenGroup]
) -> list[tuple[float, ...]]:
    return [found.sums for found in response_logprobs(context.load(model), groups)]


def _margins(
    objective: Objective,
    groups: Sequence[TokenGroup],
    policy: Sequence[Sequence[float]],
    reference: Sequence[Sequence[float]] | None,
) -> list[float]:
    """Compute each comparison's margin by the objective's rewards; empty without rewards."""
    margins: list[float] = []
    for i, group in enumerate(groups):
        pairs = _pairs(group.scores)
        logps = GroupLogps(
            _columns(policy[i], pairs),
            None if reference is None else _columns(reference[i], pairs),
            _columns([len(r) for r in group.responses], pairs),
            _columns(group.scores, pairs),
            torch.ones((len(pairs), 2), dtype=torch.bool),
            torch.full((len(pairs),), float(group.longest), dtype=torch.float64),
        )
        if input_of(objective) is not GroupLogps:  # by whole log-ratios, the policy's own reward
            metrics = reward_metrics(log_ratios_BK(logps), logps.mask_BK)
        else:
            metrics = dict(objective(logps).metrics)
        if MARGIN not in metrics:
            return []
        margins += metrics[MARGIN].tolist()
    return margins


def _rows(
    rewarded: Mapping[str, Sequence[float]],
    measured: Sequence[PreferenceGroup],
    known: Sequence[PreferenceGroup],
    seed: int,
) -> list[EvalResult]:
    """Compute every model's and guess's figure, and the first one's differences from all others."""
    if not rewarded:
        return []
    ids = [g.prompt.cluster for g in measured for _ in _pairs(g.scores)]

    def figure(values: Sequence[float], *, is_share: bool = False) -> Interval:
        return bootstrap_mean(values, prompts_N=ids, seed=seed, is_share=is_share)

    sides = {**rewarded, **_guesses(measured, known)}
    rows = [
        Subject(s, BENCHMARK).row("accuracy", figure(values, is_share=True))
        for s, values in sides.items()
    ]
    (name, won), *others = sides.items()
    for other, values in others:
        ahead = [a - b for a, b in zip(won, values, strict=True)]
        rows.append(Subject(name, BENCHMARK, other).row("accuracy_difference", figure(ahead)))
    return rows


def _guesses(
    measured: Sequence[PreferenceGroup], known: Sequence[PreferenceGroup]
) -> dict[str, list[float]]:
    """Return guess -> outcome of every comparison; "identity" only if the writers are known."""

    def guessed(value: Callable[[Response], float]) -> list[float]:
        return _outcomes([[value(r) for r in g.responses] for g in measured], measured)

    guesses = {LONGER: guessed(lambda r: len(r.text))}
    shares = _win_shares(known)
    writers = {r.sampler.model for g in measured for r in g.responses}
    if len(shares) > 1 and len(writers) > 1:
        guesses[IDENTITY] = guessed(lambda r: shares.get(r.sampler.model, 0.5))
    return guesses


def _win_shares(groups: Sequence[PreferenceGroup]) -> dict[str, float]:
    """Return each writing model's share of comparisons won against other models."""
    won: Counter[str] = Counter()
    met: Counter[str] = Counter()
    for g in groups:
        for i, j in _pairs(g.scores):
            one, other = g.responses[i].sampler.model, g.responses[j].sampler.model
            if one != other:
                won[one] += 1
                met.update([one, other])
    return {model: won[model] / met[model] for model in met}


def _outcomes(
    values: Sequence[Sequence[float]], groups: Sequence[TokenGroup | PreferenceGroup]
) -> list[float]:
    """Return 1, 0.5 or 0 per comparison: the better response has a higher, equal, lower value."""
    return [
        outcome_of(v[i] - v[j])
        for v, g in zip(values, groups, strict=True)
        for i, j in _pairs(g.scores)
    ]


def outcome_of(margin: float) -> float:
    """Return 1 for a comparison won, 0 for one lost, 0.5 for equal values."""
    return (margin > 0) + 0.5 * (margin == 0)


def _columns(values: Sequence[float], pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Return the values of the better and the worse response of each pair; (P, 2)."""
    return torch.tensor([[values[i], values[j]] for i, j in pairs], dtype=torch.float64)
