"""Label pairs by random subsets of principles, for a reward model that reads them.

SALMON (arXiv 2310.05910, section 3.2, and its code): differences of two responses by each principle
are divided by their variance over the data; each draw shows some principles, some of them negated;
the one with the largest difference decides. Departure: differences are of two scores, not of the
logits of two options in both orders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from alignlab import seeds
from alignlab.configs import Bounded, Fraction, PositiveInt
from alignlab.context import RunContext
from alignlab.errors import RunFailed
from alignlab.feedback.principled import with_principles
from alignlab.feedback.principles import Principle
from alignlab.protocols import FeedbackSource
from alignlab.stages.judge import by_prompt, judge, scores
from alignlab.types import Count, PreferenceGroup, Prompt, Response

UNDECIDED = "no principle shown tells the responses apart"


@dataclass(frozen=True)
class PrincipleSettings(Bounded):
    """Settings of labels by principles; defaults are the paper's code's."""

    draws: PositiveInt = 4
    """Labels drawn per pair, each by other principles."""
    stop: Fraction = 0.2
    """Probability that a draw shows no further principle: their number is geometric."""
    most: PositiveInt = 8
    """Maximum number of principles shown in a draw."""
    negated: Fraction = 0.5
    """Probability that a shown principle is negated, which turns its difference around."""
    unit: Literal["variance", "std"] = "variance"
    """Divisor of a principle's differences: their variance over the pairs, by which rare
    differences weigh more, or their standard deviation."""
    label_noise: Fraction = 0.1
    """Probability that a label is turned around."""


class Compared(NamedTuple):
    """Two responses with their difference by each principle."""

    prompt: Prompt
    responses: tuple[Response, Response]
    difference_P: tuple[float, ...]
    """Score of the first less that of the second, in the principle's unit; 0 where either is
    unscored."""


def compare_by_principles(
    context: RunContext,
    sources: Sequence[FeedbackSource],
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    unit: Literal["variance", "std"],
) -> list[Compared]:
    """Pair each prompt's responses, first with second and so on, and compare them by principle.

    Args:
        sources: scorer by each principle.
        unit: divisor of differences; a principle without any stays 0.

    Raises:
        RunFailed: a source scored no answer.
    """
    pairs = [
        (prompt, several[i], several[i + 1])
        for prompt, several in by_prompt(prompts, responses)
        for i in range(0, len(several) - 1, 2)
        if several[i].text != several[i + 1].text
    ]
    columns = []
    for number, source in enumerate(sources, start=1):
        rated = judge(context, source, prompts, responses, name=f"principle-{number}")
        known = scores(rated)
        if rated and not known:
            raise RunFailed(
                f"{source.name}: scored none of {len(rated)} answers by a principle (reasons in "
                f"counts.jsonl of the stage principle-{number})"
            )
        found = [
            known[a.id] - known[b.id] if a.id in known and b.id in known else 0.0
            for _, a, b in pairs
        ]
        columns.append(_in_units(np.array(found), unit))
    return [
        Compared(prompt, (a, b), tuple(float(column[n]) for column in columns))
        for n, (prompt, a, b) in enumerate(pairs)
    ]


def _in_units(found: np.ndarray, unit: Literal["variance", "std"]) -> np.ndarray:
    """Divide differences by their variance or standard deviation around 0."""
    variance = float((found**2).mean()) if len(found) else 0.0
    divisor = variance if unit == "variance" else variance**0.5
    return found / divisor if divisor else found


def label_by_principles(
    context: RunContext,
    principles: Sequence[Principle],
    compared: Sequence[Compared],
    settings: PrincipleSettings,
    *,
    labels: Literal["principles", "coin"] = "principles",
    shown: bool = True,
    name: str = "labels",
) -> list[PreferenceGroup]:
    """Draw labels for each pair; draws that decide nothing are dropped and counted.

    Args:
        labels: "principles", or a fair draw from the seed for the same pairs, the control.
        shown: show the principles in the prompts; without them the reward model cannot know.
    """
    inputs = {"labels": labels, "shown": str(shown)}
    with context.run.stage(name, config=settings, inputs=inputs) as stage:
        if stage.done:
            return stage.records("groups", PreferenceGroup).read()
        seed = context.seed_for("principles")
        dropped: Counter[str] = Counter()
        groups = []
        for pair in compared:
            for draw in range(settings.draws):
                group = _drawn(principles, pair, settings, (seed, draw), labels == "coin", shown)
                if group is None:
                    dropped[UNDECIDED] += 1
                else:
                    groups.append(group)
        stage.write("groups", PreferenceGroup, groups)
        stage.count([Count(stage.name, "labels", len(groups), dict(dropped))])
        return groups


def _drawn(
    principles: Sequence[Principle],
    pair: Compared,
    settings: PrincipleSettings,
    place: tuple[int, int],
    coin: bool,
    shown: bool,
) -> PreferenceGroup | None:
    """Draw one label of a pair; None where the principles shown do not decide."""
    first, second = pair.responses
    rng = seeds.generator(place[0], first.id, second.id, place[1])
    most = min(settings.most, len(principles))
    count = min(int(rng.geometric(settings.stop)), most) if settings.stop else most
    chosen = rng.permutation(len(principles))[:count]
    turned = rng.random(count) < settings.negated
    values = [pair.difference_P[p] * (-1 if n else 1) for p, n in zip(chosen, turned, strict=True)]
    decisive = max(values, key=abs)
    if not decisive:
        return None
    better_first = decisive > 0
    if rng.random() < settings.label_noise:
        better_first = not better_first
    if coin:
        better_first = bool(rng.random() < 0.5)
    texts = [
        principles[p].negated if n else principles[p].text
        for p, n in zip(chosen, turned, strict=True)
    ]
    prompt = replace(pair.prompt, id=f"{first.id}|{second.id}|{place[1]}")
    prompt = with_principles(prompt, texts if shown else ())
    both = (first, second) if better_first else (second, first)
    return PreferenceGroup(prompt, both, (1.0, 0.0), "coin" if coin else "principles")
