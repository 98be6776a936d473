"""Build judgements to train on (EFT) from responses ranked by humans (arXiv 2401.10020, 2.1).

The SFT baseline judges every response of a ranked group several times. A group is used when the
mean scores order its responses as the humans did, equal ones in any order; each response then gives
one example, judge prompt -> the sampled judgement nearest to its mean. Scores that are
over-represented are thinned. Where the baseline cannot judge (unreadable answers, or hardly any
agreement), the targets are the humans' scores, or their ranks if there are no scores on the judge's
scale; the manifest counts these targets.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from alignlab import seeds
from alignlab.configs import Bounded, NonNegativeInt, Positive
from alignlab.context import RunContext
from alignlab.feedback.model_judge import ModelJudge
from alignlab.stages.judge import judge
from alignlab.types import (
    Count,
    Demonstration,
    Feedback,
    PreferenceGroup,
    Prompt,
    Response,
    SampledBy,
    Score,
)


@dataclass(frozen=True)
class EFTSettings(Bounded):
    """Settings of the judgements to train on."""

    limit: NonNegativeInt = 1775
    """Maximum number of examples."""
    targets: Literal["auto", "judged", "human"] = "auto"
    """"judged": the baseline's own agreeing judgements; "human": the humans' scores or ranks;
    "auto": judged, filled up with the humans' when fewer than `minimum` agree."""
    minimum: NonNegativeInt = 200
    """Minimum number of judged examples for "auto" to use no human targets."""
    balance: Positive = 2.0
    """Maximum number of examples of one score, as a multiple of the median over the scores
    present."""


@dataclass(frozen=True)
class _Target:
    """Judgement to learn: the judged response and the target text."""

    prompt: Prompt
    response: Response
    score: float
    text: str
    origin: Literal["judged", "human scores", "human ranks"]


def build_eft(
    context: RunContext,
    baseline_judge: ModelJudge,
    groups: Sequence[PreferenceGroup],
    settings: EFTSettings,
) -> list[Demonstration]:
    """Build EFT examples from ranked groups.

    Args:
        baseline_judge: the SFT baseline with the judge prompt of the examples.
    """
    feedback: dict[str, Feedback] = {}
    if settings.targets != "human":
        prompts = [group.prompt for group in groups]
        responses = [response for group in groups for response in group.responses]
        judged = judge(context, baseline_judge, prompts, responses, name="eft-judge")
        feedback = {f.response_ids[0]: f for f in judged}
    with context.run.stage("eft", config=settings) as stage:
        if stage.done:
            return stage.records("demonstrations", Demonstration).read()
        targets, dropped = _targets(baseline_judge, groups, feedback, settings)
        balanced = _balance(targets, settings, context.seed_for("eft"))
        thinned = len(targets) - len(balanced)
        kept = balanced[: settings.limit]
        if thinned:
            dropped["score over-represented"] += thinned
        if len(balanced) > len(kept):
            dropped[f"over the limit of {settings.limit}"] += len(balanced) - len(kept)
        origins = Counter(t.origin for t in kept if t.origin != "judged")
        changed = {f"target from {origin}": number for origin, number in origins.items()}
        demonstrations = [_demonstration(baseline_judge, target) for target in kept]
        stage.write("demonstrations", Demonstration, demonstrations)
        stage.count([Count(stage.name, "eft", len(kept), dict(dropped), changed)])
        return demonstrations


def _targets(
    judge: ModelJudge,
    groups: Sequence[PreferenceGroup],
    feedback: dict[str, Feedback],
    settings: EFTSettings,
) -> tuple[list[_Target], Counter[str]]:
    """Return every usable judgement, and the number of responses dropped by reason."""
    targets: list[_Target] = []
    refused: list[tuple[PreferenceGroup, str]] = []
    for group in groups:
        reason = _disagreement(group, feedback) if feedback else "the humans' scores are equal"
        if reason:
            refused.append((group, reason))
        else:
            targets += [_judged(group.prompt, r, feedback[r.id]) for r in group.responses]
    use_human = settings.targets == "human" or (
        settings.targets == "auto" and len(targets) < settings.minimum
    )
    dropped: Counter[str] = Counter()
    for group, reason in refused:
        made = _human(judge, group) if use_human else []
        targets += made
        if not made:
            dropped[reason] += len(group.responses)
    return targets, dropped


def _disagreement(group: PreferenceGroup, feedback: dict[str, Feedback]) -> str | None:
    """Return the reason why the judge's scores contradict the humans' order, or None."""
    judged: list[float] = []
    for response in group.responses:
        verdict = feedback[response.id].verdict
        if not isinstance(verdict, Score):
            return "judgement unreadable"
        judged.append(verdict.value)
    if max(group.scores) == min(group.scores):
        return "the humans' scores are equal"
    if max(judged) == min(judged):
        return "judged equal"
    # Responses that humans found equal have no order to agree with.
    if any(
        (better > worse and judged[i] < judged[j]) or (better < worse and judged[i] > judged[j])
        for (i, better), (j, worse) in combinations(enumerate(group.scores), 2)
    ):
        return "judged in another order than the humans'"
    return None


def _judged(prompt: Prompt, response: Response, feedback: Feedback) -> _Target:
    """Return the sampled judgement whose score is nearest to the mean of the samples."""
    verdict = feedback.verdict
    assert isinstance(verdict, Score)
    readable = [
        (abs(score - verdict.value), index, score)
        for index, score in enumerate(verdict.samples)
        if score is not None
    ]
    _, index, score = min(readable)
    return _Target(prompt, response, score, feedback.raw[index], "judged")


def _human(judge: ModelJudge, group: PreferenceGroup) -> list[_Target]:
    """Return the humans' scores, rounded, if they are on the judge's scale; else their ranks spread
    evenly over it, equal ranks sharing a score.
    """
    low, high = judge.prompt.low, judge.prompt.high
    if all(low <= score <= high for score in group.scores):
        return [
            _Target(group.prompt, r, round(s), judge.prompt.target(round(s)), "human scores")
            for r, s in zip(group.responses, group.scores, strict=True)
        ]
    levels = sorted(set(group.scores))
    if len(levels) == 1:
        return []
    step = (high - low) / (len(levels) - 1)
    spread = [round(low + step * levels.index(score)) for score in group.scores]
    return [
        _Target(group.prompt, r, score, judge.prompt.target(score), "human ranks")
        for r, score in zip(group.responses, spread, strict=True)
    ]


def _balance(targets: Sequence[_Target], settings: EFTSettings, seed: int) -> list[_Target]:
    """Shuffle the targets and cap the number of each score."""
    shuffled = sorted(targets, key=lambda t: seeds.derive(seed, t.response.id))
    present = Counter(t.score for t in targets)
    if not present:
        return []
    cap = max(1, int(settings.balance * statistics.median(present.values())))
    taken: Counter[float] = Counter()
    kept = []
    for target in shuffled:
        if taken[target.score] < cap:
            taken[target.score] += 1
            kept.append(target)
    return kept


def _demonstration(judge: ModelJudge, target: _Target) -> Demonstration:
    asked = judge.prompt.render(target.prompt, target.response)
    prompt = Prompt(f"judge-{target.response.id}", asked, source="eft")
    response = Response(
        id=f"eft-{target.response.id}",
        prompt_id=prompt.id,
        text=target.text,
        sampler=SampledBy(judge.name if target.origin == "judged" else target.origin),
    )
    return Demonstration(prompt, response, task="eft")
