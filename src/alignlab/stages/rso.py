"""Pair responses of the optimal policy by rejection sampling (RSO, arXiv 2309.06657, algorithm 1).

The policy that DPO estimates is p(y) proportional to p_sft(y) * exp(r(y) / beta). Responses drawn
from p_sft become responses of that policy when y is accepted with probability exp((r(y) - r_max) /
beta), r_max the largest reward among those not accepted yet; passes over the rest, each with a
fresh r_max, go on until there are enough. beta towards 0 accepts the best ones, a large beta
accepts the first ones. Accepted responses are paired at random or in a tournament (section 3.3
there) and labelled by the reward. Departures: rewards are pointwise scores, not comparisons with a
random response; the candidates' order is drawn at random, so that their origin has no effect.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from alignlab import seeds
from alignlab.configs import Bounded, Positive
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.types import Count, PreferenceGroup


@dataclass(frozen=True)
class RSOSettings(Bounded):
    """Settings of rejection sampling and pairing."""

    beta: Positive = 0.5
    """Temperature in units of the reward; towards 0 only the best are accepted."""
    quota: Annotated[int, Field(ge=2)] = 2
    """Number of responses accepted per prompt (the paper: 8 of 64)."""
    pairs: Literal["first_round", "tournament"] = "first_round"
    """"first_round": accepted responses are paired at random, quota / 2 pairs; "tournament":
    winners meet again, quota - 1 pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs == "tournament" and self.quota == 2:
            raise BadInput("setting rso.pairs: a tournament of 2 is a first round; raise rso.quota")


@dataclass(frozen=True)
class Accepted:
    """Candidates accepted by rejection sampling."""

    indices: tuple[int, ...]
    """Indices of the accepted candidates, in the order of acceptance."""
    passes: int
    """Number of passes over the candidates."""
    tried: int
    """Number of acceptance draws."""


def accept(rewards: Sequence[float], quota: int, beta: float, rng: np.random.Generator) -> Accepted:
    """Accept candidates by their rewards until the quota is met or none is left.

    Args:
        rewards: one per candidate, finite.
        beta: temperature in units of the reward, above 0.

    Raises:
        ValueError: a reward that is not finite, or a beta that is not above 0.
    """
    if not beta > 0 or not all(math.isfinite(r) for r in rewards):
        raise ValueError(f"expected finite rewards and beta > 0, found {rewards} and {beta}")
    left = [int(i) for i in rng.permutation(len(rewards))]
    accepted: list[int] = []
    passes = tried = 0
    while left and len(accepted) < quota:
        highest, passes = max(rewards[i] for i in left), passes + 1
        rejected: list[int] = []
        for i in left:
            if len(accepted) == quota:
                break
            tried += 1
            if rng.random() < math.exp((rewards[i] - highest) / beta):
                accepted.append(i)
            else:
                rejected.append(i)
        left = rejected
    return Accepted(tuple(accepted), passes, tried)


def meetings(
    accepted: Sequence[int], rewards: Sequence[float], how: Literal["first_round", "tournament"]
) -> Iterator[tuple[int, int]]:
    """Yield pairs (better, worse) of candidates; equal rewards yield none, the first advances."""
    field = list(accepted)
    while len(field) > 1:
        winners: list[int] = []
        for one, other in zip(field[::2], field[1::2], strict=False):
            better, worse = (one, other) if rewards[one] >= rewards[other] else (other, one)
            winners.append(better)
            if rewards[better] > rewards[worse]:
                yield better, worse
        if how == "first_round":
            return
        field = winners + field[len(winners) * 2 :]


def rso(
    context: RunContext,
    groups: Sequence[PreferenceGroup],
    settings: RSOSettings,
    *,
    name: str = "rso",
) -> list[PreferenceGroup]:
    """Return pairs of accepted responses of scored groups.

    Raises:
        BadInput: no group has as many responses as the quota asks for.
    """
    with context.run.stage(name, config=settings, inputs={"groups": str(len(groups))}) as stage:
        if stage.done:
            return stage.records("groups", PreferenceGroup).read()
        pairs: list[PreferenceGroup] = []
        dropped: Counter[str] = Counter()
        candidates = taken = 0
        for group in groups:
            rng = seeds.generator(context.seed_for("rso"), group.id)
            accepted = accept(group.scores, settings.quota, settings.beta, rng)
            candidates, taken = candidates + len(group.scores), taken + len(accepted.indices)
            if len(accepted.indices) < settings.quota:
                dropped[f"fewer than {settings.quota} candidates"] += 1
                continue
            of_group = list(meetings(accepted.indices, group.scores, settings.pairs))
            if not of_group:
                dropped["accepted responses have equal scores"] += 1
            pairs += [_pair(group, *pair) for pair in of_group]
        if groups and len(dropped) == 1 and dropped.total() == len(groups):
            why = next(iter(dropped))
            raise BadInput(f"rso: expected groups to make pairs of, found {why} in every one")
        stage.write("groups", PreferenceGroup, pairs)
        rejected = {"rejected": candidates - taken} if candidates > taken else {}
        counted = Count(stage.name, "pairs", len(pairs), dict(dropped))
        stage.count([Count(stage.name, "candidates", taken, rejected), counted])
        return pairs


def _pair(group: PreferenceGroup, better: int, worse: int) -> PreferenceGroup:
    return PreferenceGroup(
        group.prompt,
        (group.responses[better], group.responses[worse]),
        (group.scores[better], group.scores[worse]),
        group.source,
    )
