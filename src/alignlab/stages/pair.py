"""Build preference groups from rated responses, best first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from alignlab import seeds
from alignlab.configs import Bounded, NonNegative
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.stages.coin import by_coin
from alignlab.stages.judge import by_prompt, scores
from alignlab.types import Count, Demonstration, Feedback, PreferenceGroup, Prompt, Response

OTHER_THAN_ENDS = "other than best and worst, by length"
"""Reason under which pairs are counted that the length rule changed."""


@dataclass(frozen=True)
class PairSettings(Bounded):
    """Settings of building preferences from K rated responses."""

    keep: Literal["best_worst", "all", "winners"] = "best_worst"
    """"best_worst": one pair per prompt (arXiv 2401.10020); "all": the ranked list, for listwise
    objectives; "winners": the best response is imitated (SFT), the positive-only ablation."""
    min_gap: NonNegative = 0.0
    """Minimum difference of score between best and worst; equal scores never form a pair."""
    rho: Annotated[float, Field(ge=0, lt=0.5)] | None = None
    """Width of the tiers of a length rule (arXiv 2407.19594: 0 to 0.4), as a share of a prompt's
    range of scores: the shortest response of the top tier is preferred to the longest of the
    bottom tier, by characters; without it best and worst are taken, whatever their lengths."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rho is not None and self.keep == "all":
            raise BadInput("setting pairs.rho: has no effect with pairs.keep=all; leave it out")


def pair(
    context: RunContext,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    feedback: Sequence[Feedback],
    settings: PairSettings,
    *,
    name: str = "pair",
) -> list[PreferenceGroup]:
    """Order each prompt's responses by score; break ties by a draw from the seed.

    The draw matters: with scores out of six values the first of four equal responses would
    otherwise always win.
    """
    with context.run.stage(name, config=settings) as stage:
        if stage.done:
            return stage.records("groups", PreferenceGroup).read()
        known, source = scores(feedback), feedback[0].source if feedback else ""
        dropped: Counter[str] = Counter()
        changed: Counter[str] = Counter()
        groups = []
        for prompt, several in by_prompt(prompts, responses):
            group = _group(prompt, several, known, source, context.seed_for("ties"))
            accepted = _accept(group, settings)
            if isinstance(accepted, str):
                dropped[accepted] += 1
            else:
                groups.append(accepted)
                if group is not None and settings.rho is not None:
                    changed[OTHER_THAN_ENDS] += accepted != group.best_and_worst()
        stage.write("groups", PreferenceGroup, groups)
        stage.count([Count(stage.name, "groups", len(groups), dict(dropped), dict(+changed))])
        return groups


def demonstration_pairs(
    context: RunContext,
    prompts: Sequence[Prompt],
    chosen: Sequence[Response],
    rejected: Sequence[Response],
    *,
    name: str = "pair",
    source: str = "demonstration",
    whole: bool = False,
    labels: Literal["origin", "coin"] = "origin",
) -> list[PreferenceGroup]:
    """Prefer responses by origin: the teacher's over the student's, refined over first ones.

    Args:
        whole: drop pairs whose rejected response was cut off, which is a sign of its origin.
        labels: "coin" takes the same pairs and draws the preferred response of each, the control.
    """
    with context.run.stage(name) as stage:
        if stage.done:
            return stage.records("groups", PreferenceGroup).read()
        better = {r.prompt_id: r for r in chosen}
        worse = {r.prompt_id: r for r in rejected}
        dropped: Counter[str] = Counter()
        groups = []
        for prompt in prompts:
            if prompt.id not in better or prompt.id not in worse:
                dropped["a response is missing"] += 1
            elif better[prompt.id].text == worse[prompt.id].text:
                dropped["both responses say the same"] += 1
            elif whole and worse[prompt.id].finish == "length":
                dropped["the rejected response was cut off"] += 1
            else:
                both = (better[prompt.id], worse[prompt.id])
                groups.append(PreferenceGroup(prompt, both, (1.0, 0.0), source))
        if labels == "coin":
            groups = [by_coin(group, context.seed_for("coin")) for group in groups]
        stage.write("groups", PreferenceGroup, groups)
        stage.count([Count(stage.name, "groups", len(groups), dict(dropped))])
        return groups


def best_as_demonstrations(groups: Sequence[PreferenceGroup]) -> list[Demonstration]:
    """Return the best responses as demonstrations: positive-only ablation, best-of-n (RAFT)."""
    return [Demonstration(group.prompt, group.responses[0]) for group in groups]


def _group(
    prompt: Prompt,
    responses: Sequence[Response],
    known: Mapping[str, float],
    source: str,
    seed: int,
) -> PreferenceGroup | None:
    rated = [r for r in responses if r.id in known]
    distinct = list({r.text: r for r in rated}.values())
    if len(distinct) < 2:
        return None
    ordered = sorted(distinct, key=lambda r: (-known[r.id], seeds.derive(seed, r.id)))
    return PreferenceGroup(prompt, tuple(ordered), tuple(known[r.id] for r in ordered), source)


def _accept(group: PreferenceGroup | None, settings: PairSettings) -> PreferenceGroup | str:
    """Return the part of a prompt's ordered responses to train on, or the reason for none."""
    if group is None:
        return "fewer than two different scored responses"
    pair = group.best_and_worst()
    if pair is None:
        return "all scores are equal"
    if settings.rho is not None:
        pair = _by_length(group, settings.rho)
    if pair.scores[0] - pair.scores[-1] < settings.min_gap:
        return f"best and worst differ by less than {settings.min_gap}"
    return group if settings.keep == "all" else pair


def _by_length(group: PreferenceGroup, rho: float) -> PreferenceGroup:
    """Prefer the shortest response of the top tier to the longest of the bottom tier.

    With scores from s_min to s_max the tiers are [(1-rho) s_max + rho s_min, s_max] and
    [s_min, (1-rho) s_min + rho s_max]; of equally long ones the better is chosen, the worse
    rejected.
    """
    high, low = group.scores[0], group.scores[-1]
    every = list(zip(group.responses, group.scores, strict=True))
    top = [one for one in every if one[1] >= (1 - rho) * high + rho * low]
    bottom = [one for one in every if one[1] <= (1 - rho) * low + rho * high]
    chosen = min(top, key=lambda one: len(one[0].text))
    rejected = max(reversed(bottom), key=lambda one: len(one[0].text))
    return replace(group, responses=(chosen[0], rejected[0]), scores=(chosen[1], rejected[1]))
