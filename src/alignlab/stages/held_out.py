"""Held-out: does a trained model prefer what the feedback preferred, beside two simple guesses?

A comparison is a group's best response with one that has a lower score. The guesses: the longer
response wins; the response of the model that won more comparisons of the training data wins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import torch

from alignlab.evaluation.metrics.intervals import bootstrap_mean
from alignlab.evaluation.rows import Subject
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
from alignlab.stages.lab import Lab
from alignlab.stages.train import LengthSettings
from alignlab.training.data import prepare
from alignlab.types import Checkpoint, Count, EvalResult, PreferenceGroup, Response

BENCHMARK = "held_out_preferences"
LONGER = "longer wins"
IDENTITY = "model identity"
ACCURACY = "rewards/accuracies"


def held_out(
    lab: Lab,
    objective: Objective,
    models: tuple[Checkpoint, Checkpoint],
    data: tuple[Sequence[PreferenceGroup], Sequence[PreferenceGroup]],
    lengths: LengthSettings,
) -> list[EvalResult]:
    """Share of comparisons won, as means over groups with bootstrap intervals over prompts.

    Args:
        objective: says what a model's reward of a response is; nothing is measured where it has
            none (imitation).
        models: before training (the reference) and after.
        data: the training groups and the held-out ones.
        lengths: as in training; longer groups are counted and left out.
    """
    before, after = models
    known, tested = data
    with lab.run.stage("held-out", inputs={"model": after.name, "groups": str(len(tested))}) as s:
        file = s.records("results", EvalResult)
        if "all" not in file.units:
            ordered = [g for g in map(_strictly_ordered, tested) if g is not None]
            counted = Count(s.name, "groups", len(ordered), {}, {})
            if len(ordered) < len(tested):
                counted = replace(counted, dropped={"equal scores": len(tested) - len(ordered)})
            lm = lab.load(before)
            groups, tally = prepare(lm, ordered, **asdict(lengths))
            s.count([counted, replace(tally, stage=s.name)])
            left = {g.id for g in groups}
            rows: list[EvalResult] = []
            won = _won(lab, objective, before, after, groups)
            if won:
                measured = [g for g in ordered if g.id in left]
                rows = _rows(after.name, won, groups, measured, known, lab.seed)
            file.append("all", rows)
        return file.read()


def _strictly_ordered(group: PreferenceGroup) -> PreferenceGroup | None:
    """The best response and those with a lower score; None where there is none."""
    lower = [k for k, score in enumerate(group.scores) if score < group.scores[0]]
    if not lower:
        return None
    kept = [0, *lower]
    return replace(
        group,
        responses=tuple(group.responses[k] for k in kept),
        scores=tuple(group.scores[k] for k in kept),
    )


def _won(
    lab: Lab,
    objective: Objective,
    before: Checkpoint,
    after: Checkpoint,
    groups: Sequence[TokenGroup],
) -> list[float]:
    """Per group, the share of the others that the best response beats; empty without rewards."""
    if input_of(objective) is GroupRewards:
        device = None if lab.hardware.device == "auto" else lab.hardware.device
        judge = load_reward_model(after.path, device=device, chat_template=lab.chat_template)
        return [
            float(objective(GroupRewards(_row(r), _row(g.scores), _all(g))).metrics[ACCURACY])
            for g, r in zip(groups, rewards(judge, groups), strict=True)
        ]
    if input_of(objective) not in (GroupLogps, LabelledLogps):
        return []
    policy = response_logprobs(lab.load(after), groups)
    reference = response_logprobs(lab.load(before), groups) if objective.needs_reference else None
    found: list[float] = []
    for i, group in enumerate(groups):
        logps = GroupLogps(
            _row(policy[i].sums),
            None if reference is None else _row(reference[i].sums),
            _row([len(r) for r in group.responses]),
            _row(group.scores),
            _all(group),
        )
        if input_of(objective) is LabelledLogps:
            metrics = reward_metrics(log_ratios_BK(logps), logps.mask_BK)
        else:
            metrics = dict(objective(logps).metrics)
        if ACCURACY not in metrics:
            return []
        found.append(float(metrics[ACCURACY]))
    return found


def _rows(
    name: str,
    won: Sequence[float],
    groups: Sequence[TokenGroup],
    measured: Sequence[PreferenceGroup],
    known: Sequence[PreferenceGroup],
    seed: int,
) -> list[EvalResult]:
    """The model's figure, each guess's, and the difference to each guess (paired)."""
    ids = [g.id for g in groups]
    guesses = {LONGER: [_guessed([len(r) for r in g.responses]) for g in groups]}
    shares = _win_shares(known)
    writers = {r.sampler.model for g in measured for r in g.responses}
    if len(shares) > 1 and len(writers) > 1:
        guesses[IDENTITY] = [
            _guessed([shares.get(r.sampler.model, 0.5) for r in g.responses]) for g in measured
        ]
    made = bootstrap_mean(won, prompts_N=ids, seed=seed)
    rows = [Subject(name, BENCHMARK).row("accuracy", made)]
    for guess, values in guesses.items():
        alone = bootstrap_mean(values, prompts_N=ids, seed=seed)
        rows.append(Subject(guess, BENCHMARK).row("accuracy", alone))
    for guess, values in guesses.items():
        ahead = [a - b for a, b in zip(won, values, strict=True)]
        figure = bootstrap_mean(ahead, prompts_N=ids, seed=seed)
        rows.append(Subject(name, BENCHMARK, guess).row("accuracy_difference", figure))
    return rows


def _guessed(values: Sequence[float]) -> float:
    """Share of the others that the first value exceeds; equal values count a half."""
    best, *others = values
    return sum((best > v) + 0.5 * (best == v) for v in others) / len(others)


def _win_shares(groups: Sequence[PreferenceGroup]) -> dict[str, float]:
    """Each writing model's share of comparisons with other models that it won."""
    won: Counter[str] = Counter()
    met: Counter[str] = Counter()
    for better, worse in _comparisons(groups):
        one, other = better.sampler.model, worse.sampler.model
        if one != other:
            won[one] += 1
            met.update([one, other])
    return {model: won[model] / met[model] for model in met}


def _comparisons(groups: Sequence[PreferenceGroup]) -> Iterator[tuple[Response, Response]]:
    for g in groups:
        for i, better in enumerate(g.responses):
            for j in range(i + 1, len(g.responses)):
                if g.scores[i] > g.scores[j]:
                    yield better, g.responses[j]


def _row(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor([list(values)], dtype=torch.float64)


def _all(group: TokenGroup) -> torch.Tensor:
    return torch.ones((1, len(group.responses)), dtype=torch.bool)
