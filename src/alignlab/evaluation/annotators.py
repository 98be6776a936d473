"""Agreement of several annotators, by every measure that suits their scale.

Ratings of a number agree by their distance (alpha interval, kappa with squared weights), labels by
being equal. Rankings are split into pairs of responses: 1 where the first is ranked before the
second, 0 behind it, 0.5 level; a pair counts as an item, and intervals resample prompts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from alignlab.evaluation.metrics.agreement import (
    Level,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    raw_agreement,
)
from alignlab.evaluation.metrics.intervals import Interval
from alignlab.types import Feedback, Ranking, Score

Scale = Literal["numbers", "preferences", "labels"]
_LEVELS: Mapping[Scale, tuple[Level, ...]] = {
    "numbers": ("nominal", "ordinal", "interval"),
    "preferences": ("nominal", "interval"),
    "labels": ("nominal",),
}


class Agreement(NamedTuple):
    """Measure of agreement between annotators."""

    what: str
    figure: Interval
    """Agreement; n counts items with two ratings or more."""
    between: tuple[str, ...]
    """Names of the annotators compared."""


class Ratings(NamedTuple):
    """Table of ratings, items by annotators."""

    names: tuple[str, ...]
    prompts: tuple[str, ...]
    """Prompt of each item."""
    values_NA: np.ndarray
    """Ratings; NaN where an annotator did not rate an item."""


def ratings_of(feedback: Sequence[Feedback], scale: Scale) -> Ratings:
    """Arrange feedback of several annotators in a table; a label is coded by alphabetical position.

    Critiques have no place in it.
    """
    known = sorted({one.raw[0] for one in feedback if scale == "labels"})
    names = tuple(sorted({one.source for one in feedback}))
    cells: dict[tuple[str, ...], dict[str, float]] = {}
    prompt_of: dict[tuple[str, ...], str] = {}
    for one in feedback:
        for item, value in _items(one):
            label = float(known.index(one.raw[0])) if scale == "labels" else value
            cells.setdefault(item, {})[one.source] = label
            prompt_of[item] = one.prompt_id
    values = [[row.get(name, np.nan) for name in names] for row in cells.values()]
    table = np.array(values, dtype=np.float64).reshape(len(cells), len(names))
    return Ratings(names, tuple(prompt_of[item] for item in cells), table)


def agreement(
    values_NA: ArrayLike,
    names: Sequence[str],
    scale: Scale,
    *,
    prompts_N: Sequence[object] | None = None,
    seed: int = 0,
) -> list[Agreement]:
    """Compute every measure for a table of ratings; none for fewer than two annotators.

    Fleiss' kappa is included where every annotator rated every item.
    """
    values = np.asarray(values_NA, dtype=np.float64)
    if len(names) < 2 or not len(values):
        return []
    every = tuple(names)
    found = [
        Agreement("equal ratings", raw_agreement(values, prompts_N=prompts_N, seed=seed), every)
    ]
    weights: Literal["none", "quadratic"] = "quadratic" if scale == "numbers" else "none"
    kappa = "Cohen's kappa" + (", squared weights" if scale == "numbers" else "")
    for one, other in itertools.combinations(range(len(names)), 2):
        figure = cohen_kappa(
            values[:, one], values[:, other], weights=weights, prompts_N=prompts_N, seed=seed
        )
        found.append(Agreement(kappa, figure, (names[one], names[other])))
    if np.isfinite(values).all() and scale != "numbers":
        figure = fleiss_kappa(values, prompts_N=prompts_N, seed=seed)
        found.append(Agreement("Fleiss' kappa", figure, every))
    for level in _LEVELS[scale]:
        figure = krippendorff_alpha(values, level=level, prompts_N=prompts_N, seed=seed)
        found.append(Agreement(f"Krippendorff's alpha, {level}", figure, every))
    return found


def _items(one: Feedback) -> list[tuple[tuple[str, ...], float]]:
    """List the rated items of a record: a response, or every pair of ranked responses."""
    if isinstance(one.verdict, Score):
        return [(one.response_ids, one.verdict.value)]
    if not isinstance(one.verdict, Ranking):
        return []
    # The same pair in the same direction for every annotator, whatever order their sheets had.
    ranked = sorted(zip(one.response_ids, one.verdict.ranks, strict=True))
    return [
        ((a, b), 0.5 if first == second else float(first < second))
        for (a, first), (b, second) in itertools.combinations(ranked, 2)
    ]
