"""Keep the pairs that a reward model is sure of, labelled by itself (SER, arXiv 2411.00418).

A reward r becomes p = sigmoid(r), and the response with the higher p is preferred. A pair is kept
by one of two rules: "clear", one p above `high` and the other below `low`; "gap", the two p differ
by at least `gap`. Bradley-Terry rewards are free up to a constant, so p means something only if
they are centred: train with `centre`, or take z-scores (`scale=z`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from alignlab.configs import Bounded, Fraction, PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.stages.coin import by_coin
from alignlab.types import Count, PreferenceGroup

UNSCORED, TIED, UNSURE = "no reward of a response", "equal rewards", "not sure enough"
FEW = "fewer than setting keep.least"

Rule = Literal["clear", "gap", "clear or gap", "all", "none"]
Scored = tuple[PreferenceGroup, tuple[float, float]]
"""Pair with the rewards of its first and of its second response."""


@dataclass(frozen=True)
class KeepSettings(Bounded):
    """Settings of keeping pairs that a reward model labels."""

    select: Literal["or", "status", "all"] = "or"
    """"or": pairs that pass either rule (the authors' code); "status": rule "clear" while any pair
    passes it, afterwards rule "gap" (the paper); "all": every pair, the control."""
    high: Fraction = 0.55
    """Rule "clear": sigmoid of the better reward is above this ..."""
    low: Fraction = 0.45
    """... and that of the worse reward below this."""
    gap: Fraction = 0.3
    """Rule "gap": least difference of the two sigmoids."""
    scale: Literal["reward", "z"] = "z"
    """"reward": the reward model's own values; "z": less their mean, divided by their standard
    deviation over the round's pool, so that a share of the pairs passes in every round."""
    least: PositiveInt = 1
    """Least number of pairs that pass a rule; with fewer no pair is kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise BadInput(
                f"settings keep.low and keep.high: expected low at most high, found {self.low} and "
                f"{self.high}"
            )


@dataclass(frozen=True)
class RoundState:
    """State of one round of pseudo-labels."""

    rule: Rule
    """Rule by which pairs were kept."""
    pool: int
    kept: int
    right: int
    """Number of kept pairs whose label is that of the pool, which no rule reads."""


class PseudoLabelled(NamedTuple):
    """Result of a round of pseudo-labels."""

    groups: list[PreferenceGroup]
    """The kept pairs as labelled, preferred response first."""
    rest: list[PreferenceGroup]
    """The pool of the next round."""
    state: RoundState


def keep_sure(
    context: RunContext,
    pool: Sequence[PreferenceGroup],
    rewards: Mapping[str, float],
    settings: KeepSettings,
    *,
    labels: Literal["model", "coin"] = "model",
    name: str = "keep",
) -> PseudoLabelled:
    """Keep the pairs of a pool that pass a rule, and label them; count the others by reason.

    Kept pairs leave the pool, but with `select="all"`, by which every round labels all of them
    anew. A dry run keeps every pair in every round.

    Args:
        pool: pairs of responses; their order is their true label where it is known.
        rewards: response id -> reward.
        labels: "model" prefers the higher reward; "coin" keeps the same pairs and draws the
            preferred response of each, the control.
    """
    with context.run.stage(name, config=settings, inputs={"labels": labels}) as stage:
        groups, states = (
            stage.records("groups", PreferenceGroup),
            stage.records("state", RoundState),
        )
        if not stage.done:
            lost: Counter[str] = Counter()
            scored = _scored(pool, rewards, settings, lost)
            known = replace(settings, select="all") if context.recorder else settings
            rule, chosen = _chosen(scored, known)
            lost[FEW if rule == "none" and settings.least > 1 else UNSURE] = len(scored) - len(
                chosen
            )
            found = [_labelled(pair, both) for pair, both in chosen]
            if labels == "coin":
                found = [by_coin(group, context.seed_for("coin")) for group in found]
            right = sum(a.responses[0].id == b.responses[0].id
                        for (a, _), b in zip(chosen, found, strict=True))  # fmt: skip
            stage.write("groups", PreferenceGroup, found)
            stage.write("state", RoundState, [RoundState(rule, len(pool), len(found), right)])
            reasons = {why: n for why, n in lost.items() if n}
            stage.count([Count(stage.name, "pairs", len(found), reasons)])
        kept, (state,) = groups.read(), states.read()
    gone = set() if state.rule == "all" else {pair_key(group) for group in kept}
    return PseudoLabelled(kept, [pair for pair in pool if pair_key(pair) not in gone], state)


def pair_key(pair: PreferenceGroup) -> frozenset[str]:
    """Return the ids of a pair's responses, in either order."""
    return frozenset(response.id for response in pair.responses)


def _scored(
    pool: Sequence[PreferenceGroup],
    rewards: Mapping[str, float],
    settings: KeepSettings,
    lost: Counter[str],
) -> list[Scored]:
    """Return the pairs of two different rewards with their rewards on the scale of the settings."""
    known = [pair for pair in pool if all(r.id in rewards for r in pair.responses)]
    lost[UNSCORED] = len(pool) - len(known)
    values = [(rewards[a.id], rewards[b.id]) for a, b in (pair.responses for pair in known)]
    mean, std = 0.0, 1.0
    if settings.scale == "z" and values:
        flat = [value for both in values for value in both]
        mean = math.fsum(flat) / len(flat)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in flat) / len(flat))
    found = []
    for pair, (one, other) in zip(known, values, strict=True):
        if one == other:
            lost[TIED] += 1
        else:
            found.append((pair, ((one - mean) / std, (other - mean) / std)))
    return found


def _chosen(scored: Sequence[Scored], settings: KeepSettings) -> tuple[Rule, list[Scored]]:
    """Return the rule of a round, and the pairs that pass it."""
    if settings.select == "all":
        return "all", list(scored)

    def clear(high: float, low: float) -> bool:
        return high > settings.high and low < settings.low

    def apart(high: float, low: float) -> bool:
        return high - low >= settings.gap

    rules: dict[Rule, Callable[[float, float], bool]] = {"clear": clear, "gap": apart}
    if settings.select == "or":
        rules = {"clear or gap": lambda high, low: clear(high, low) or apart(high, low)}
    for name, passes in rules.items():
        passed = [(p, r) for p, r in scored if passes(sigmoid(max(r)), sigmoid(min(r)))]
        if len(passed) >= settings.least:
            return name, passed
    return "none", []


def _labelled(pair: PreferenceGroup, rewards: tuple[float, float]) -> PreferenceGroup:
    """Order a pair by its rewards, best first."""
    order = (0, 1) if rewards[0] > rewards[1] else (1, 0)
    return replace(
        pair,
        responses=(pair.responses[order[0]], pair.responses[order[1]]),
        scores=(max(rewards), min(rewards)),
        source="reward model",
        probability=None,
    )


def sigmoid(value: float) -> float:
    """Return 1 / (1 + exp(-value)) without overflow."""
    return 0.5 * (1 + math.tanh(value / 2))
