"""Agreement of annotators beyond chance: Cohen's and Fleiss' kappa, Krippendorff's alpha.

All take a table of ratings, one row an item, one column an annotator, NaN where an annotator did
not rate it; categories are numbers, whose order and distance count where the level says so.
Intervals resample items, or the prompts that items belong to; kappa and alpha
have none for fewer than 10 of them. 1 is full agreement, 0 is chance,
below 0 is worse than chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import (
    NOTHING,
    Floats,
    Interval,
    alike,
    coefficient_interval,
    labels,
    percentile_interval,
    resample_counts,
)
from alignlab.seeds import generator

Level = Literal["nominal", "ordinal", "interval"]
Prompts = Sequence[object] | None
"""Prompt of each item; None makes each item a prompt of its own."""
DRAWS = 1000


def raw_agreement(ratings_NA: ArrayLike, *, prompts_N: Prompts = None, seed: int = 0) -> Interval:
    """Compute the share of equal ratings among pairs of ratings of one item, chance included."""
    coincidences_NCC, _ = _coincidences(_table(ratings_NA))
    return _interval(coincidences_NCC, _observed, prompts_N, seed, _share_interval)


def cohen_kappa(
    first_N: ArrayLike,
    second_N: ArrayLike,
    *,
    weights: Literal["none", "linear", "quadratic"] = "none",
    prompts_N: Prompts = None,
    seed: int = 0,
) -> Interval:
    """Compute Cohen's kappa of two annotators (1960), optionally weighted by distance (1968).

    kappa = 1 - sum(w * observed) / sum(w * expected), w being 1 off the diagonal, or the distance
    between the categories' positions, or its square. None where chance agreement is full.

    Raises:
        BadInput: lists of unlike lengths.
    """
    first, second = np.asarray(first_N, np.float64), np.asarray(second_N, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise BadInput(
            f"kappa: expected two lists of one length, got {first.shape}, {second.shape}"
        )
    both = np.isfinite(first) & np.isfinite(second)
    values = np.unique(np.concatenate([first[both], second[both]]))
    # An item that one of them did not rate has a table of zeros.
    table_NCC = np.zeros((len(first), len(values), len(values)))
    rows = np.searchsorted(values, first[both]), np.searchsorted(values, second[both])
    table_NCC[np.flatnonzero(both), rows[0], rows[1]] = 1
    apart = np.abs(np.subtract.outer(np.arange(len(values)), np.arange(len(values)))).astype(float)
    weight_CC = {"none": (apart > 0).astype(float), "linear": apart, "quadratic": apart**2}[weights]

    def kappa(sum_DCC: Floats) -> Floats:
        expected_DCC = sum_DCC.sum(2)[:, :, None] * sum_DCC.sum(1)[:, None, :]
        expected_D = (weight_CC * expected_DCC).sum((1, 2)) / sum_DCC.sum((1, 2))
        return _one_minus((weight_CC * sum_DCC).sum((1, 2)), expected_D)

    return _interval(table_NCC, kappa, prompts_N, seed)


def fleiss_kappa(ratings_NA: ArrayLike, *, prompts_N: Prompts = None, seed: int = 0) -> Interval:
    """Compute Fleiss' kappa (1971) of any number of annotators who rated every item.

    Raises:
        BadInput: an item that an annotator did not rate.
    """
    ratings = _table(ratings_NA)
    if not np.isfinite(ratings).all():
        raise BadInput("Fleiss' kappa: expected a rating of every annotator; alpha takes gaps")
    coincidences_NCC, _ = _coincidences(ratings)

    def kappa(sum_DCC: Floats) -> Floats:
        share_DC = sum_DCC.sum(2) / sum_DCC.sum((1, 2))[:, None]
        return _one_minus(1 - _observed(sum_DCC), 1 - (share_DC**2).sum(1))

    return _interval(coincidences_NCC, kappa, prompts_N, seed)


def krippendorff_alpha(
    ratings_NA: ArrayLike,
    *,
    level: Level = "nominal",
    prompts_N: Prompts = None,
    seed: int = 0,
) -> Interval:
    """Compute Krippendorff's alpha: 1 - observed / expected disagreement (2011, "Computing alpha").

    Disagreement of two ratings is 1 where they differ (nominal), the squared difference
    (interval), or the squared number of ratings between them (ordinal). Items with a single rating
    are left out; n counts the others. None where all ratings are equal.
    """
    coincidences_NCC, values_C = _coincidences(_table(ratings_NA))

    def alpha(sum_DCC: Floats) -> Floats:
        number_DC = sum_DCC.sum(2)
        apart_DCC = _disagreement(level, values_C, number_DC)
        pairs_DCC = number_DC[:, :, None] * number_DC[:, None, :]
        # The expected table leaves out a rating's pairing with itself.
        expected_D = (pairs_DCC * apart_DCC).sum((1, 2)) / np.maximum(number_DC.sum(1) - 1, 1)
        return _one_minus((sum_DCC * apart_DCC).sum((1, 2)), expected_D)

    return _interval(coincidences_NCC, alpha, prompts_N, seed)


def _table(ratings_NA: ArrayLike) -> Floats:
    ratings = np.asarray(ratings_NA, dtype=np.float64)
    if ratings.ndim != 2 or ratings.shape[1] < 2:
        raise BadInput(f"agreement: expected items x annotators (2 or more), got {ratings.shape}")
    return ratings


def _coincidences(ratings_NA: Floats) -> tuple[Floats, Floats]:
    """Count each item's ordered pairs of categories, weighted 1 / (ratings - 1).

    Returns the table, shape (N, C, C), whose entries sum to the item's number of ratings (zeros for
    an item of a single rating), and the categories, shape (C,).
    """
    known_N = np.isfinite(ratings_NA).sum(1)
    values_C = np.unique(ratings_NA[np.isfinite(ratings_NA)])
    counts_NC = (ratings_NA[:, :, None] == values_C).sum(1).astype(float)
    pairs_NCC = counts_NC[:, :, None] * counts_NC[:, None, :]
    diagonal = np.arange(len(values_C))
    pairs_NCC[:, diagonal, diagonal] -= counts_NC
    return pairs_NCC / np.maximum(known_N - 1, 1)[:, None, None], values_C


def _disagreement(level: Level, values_C: Floats, number_DC: Floats) -> Floats:
    """Return the disagreement of every two categories, shape (D or 1, C, C)."""
    if level == "nominal":
        return 1 - np.eye(len(values_C))[None]
    if level == "interval":
        return (np.subtract.outer(values_C, values_C) ** 2)[None]
    # Ratings from one category to another, the two ends counted half.
    middle_DC = np.cumsum(number_DC, axis=1) - number_DC / 2
    squared: Floats = (middle_DC[:, :, None] - middle_DC[:, None, :]) ** 2
    return squared


def _observed(sum_DCC: Floats) -> Floats:
    equal: Floats = np.trace(sum_DCC, axis1=1, axis2=2) / sum_DCC.sum((1, 2))
    return equal


def _one_minus(observed_D: Floats, expected_D: Floats) -> Floats:
    """Return 1 - observed / expected; NaN where expected is 0."""
    ratio_D = np.full(len(observed_D), np.nan)
    # A bootstrap draw of equal ratings leaves rounding errors where there is no chance to differ.
    np.divide(observed_D, expected_D, out=ratio_D, where=expected_D > 1e-12)
    return 1 - ratio_D


def _interval(
    table_NCC: Floats,
    statistic: Callable[[Floats], Floats],
    prompts_N: Prompts,
    seed: int,
    bounded: Callable[..., Interval] = coefficient_interval,
) -> Interval:
    """Bootstrap a statistic of the items' summed tables over prompts; n counts items."""
    items = int(table_NCC.any(axis=(1, 2)).sum())
    if not items:
        return NOTHING
    prompt_N = np.arange(len(table_NCC)) if prompts_N is None else labels(prompts_N)
    table_PCC = np.zeros((int(prompt_N.max()) + 1, *table_NCC.shape[1:]))
    np.add.at(table_PCC, prompt_N, table_NCC)
    table_PCC = table_PCC[table_PCC.any(axis=(1, 2))]
    counts_DP = resample_counts(len(table_PCC), DRAWS, generator(seed, "agreement"))
    drawn = statistic(np.tensordot(counts_DP, table_PCC, axes=1))
    value = float(statistic(table_PCC.sum(0)[None])[0])
    return bounded(value, drawn, n=items, units=len(table_PCC))


def _share_interval(value: float, drawn: Floats, *, n: int, units: int) -> Interval:
    """Return percentile bounds; Wilson's where all prompts are alike, which draws cannot vary."""
    found = percentile_interval(value, drawn, n=n, units=units)
    return alike(value, units, n=n) if found.low == found.high else found
