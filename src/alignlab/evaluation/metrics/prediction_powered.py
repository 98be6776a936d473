"""Prediction-powered inference: a mean from few human labels and many predictions of a judge.

With labels Y and predictions f on n labelled units, and f alone on N others, the estimate is
mean(Y) + w (mean of f on the others - mean of f on the labelled), whose expectation is that of Y
for any w and any judge (arXiv 2301.09633). Its variance is var(Y - w f)/n + w^2 var(f)/N, least at
w = cov(Y, f) / ((1 + n/N) var(f)), which is estimated and clipped to [0, 1] (PPI++, arXiv
2311.01453, section 6). w = 0, for a useless judge or without other units, is the classical mean.
The labelled units must be drawn at random from all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import (
    LEVEL,
    NOTHING,
    Floats,
    Interval,
    alike,
    labels,
)


@dataclass(frozen=True)
class PoweredMean:
    """Mean by labels and predictions, and by labels alone."""

    corrected: Interval
    """Mean by both; n counts the labelled prompts."""
    people: Interval
    """Mean of the labels alone, the same interval with w = 0."""
    weight: float
    """Weight of the predictions, from 0 (useless, or nothing unlabelled) to 1."""
    unlabelled: int
    """Number of prompts with predictions alone."""


def powered_mean(
    judge_N: ArrayLike, people_N: ArrayLike, *, prompts_N: Sequence[object] | None = None
) -> PoweredMean:
    """Estimate the mean human label of values in [0, 1].

    Args:
        judge_N: prediction for every unit; NaN, an unread verdict, counts as one half.
        people_N: label of a unit; NaN where there is none.
        prompts_N: prompt of each unit, whose units are averaged first; by default each its own.

    Returns:
        The mean with a 95% interval by Student's distribution; no interval for a single label.

    Raises:
        BadInput: lists of unlike lengths, or values outside [0, 1].
    """
    judge, people = np.asarray(judge_N, np.float64), np.asarray(people_N, np.float64)
    if judge.shape != people.shape or judge.ndim != 1:
        raise BadInput(
            f"people's labels: expected one per prediction, got {people.shape} and {judge.shape}"
        )
    judge = np.where(np.isnan(judge), 0.5, judge)
    known = people[~np.isnan(people)]
    if any(len(v) and not (v.min() >= 0 and v.max() <= 1) for v in (judge, known)):
        raise BadInput("people's labels and predictions: expected values in [0, 1]")
    prompt_N = np.arange(len(judge)) if prompts_N is None else labels(prompts_N)
    judge_P, people_P = _by_prompt(judge, prompt_N), _by_prompt(people, prompt_N)
    has_P = ~np.isnan(people_P)
    labelled, predicted, others = people_P[has_P], judge_P[has_P], judge_P[~has_P]
    if not len(labelled):
        return PoweredMean(NOTHING, NOTHING, 0.0, len(others))
    weight = _weight(labelled, predicted, others)
    return PoweredMean(
        _interval(labelled, predicted, others, weight),
        _interval(labelled, predicted, others, 0.0),
        weight,
        len(others),
    )


def _by_prompt(values_N: Floats, prompt_N: np.ndarray) -> Floats:
    """Average the known values of each prompt; NaN where none is known."""
    known = ~np.isnan(values_N)
    sums = np.bincount(prompt_N, weights=np.where(known, values_N, 0.0))
    counts = np.bincount(prompt_N, weights=known.astype(np.float64))
    means: Floats = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return means


def _weight(labelled: Floats, predicted: Floats, others: Floats) -> float:
    """Return the weight of least variance, clipped to [0, 1]."""
    n, number = len(labelled), len(others)
    if n < 2 or number < 2:
        return 0.0
    spread = float(np.concatenate([predicted, others]).var(ddof=1))
    if spread <= 0:
        return 0.0
    together = float(np.cov(labelled, predicted, ddof=1)[0, 1])
    return min(1.0, max(0.0, together / ((1 + n / number) * spread)))


def _interval(labelled: Floats, predicted: Floats, others: Floats, weight: float) -> Interval:
    n = len(labelled)
    value = float((labelled - weight * predicted).mean())
    if weight:
        value += weight * float(others.mean())
    value = min(1.0, max(0.0, value))
    if n < 2:
        return Interval(value, None, None, n)
    variance = float((labelled - weight * predicted).var(ddof=1)) / n
    if weight:
        variance += weight**2 * float(others.var(ddof=1)) / len(others)
    if variance < 1e-15:  # equal labels, which leave the mean uncertain all the same
        return alike(value, n, n=n)
    half = float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * math.sqrt(variance)
    return Interval(value, max(0.0, value - half), min(1.0, value + half), n)
