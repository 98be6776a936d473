"""Calibration: distance between a judge's probabilities, or scores, and the truth.

The Brier score (1950) is the mean squared distance to the truth. The expected calibration error
(Naeini and others 2015) is the mean, over bins of predictions weighted by their size, of the
distance between mean prediction and mean truth. It is 0 for a judge that always predicts the
overall mean: read it with an accuracy. Small samples push it up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import (
    NOTHING,
    Floats,
    Interval,
    bootstrap_mean,
    labels,
    percentile_interval,
    resample_counts,
)
from alignlab.seeds import generator

DRAWS = 1000


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions between two bounds, with the truth about them."""

    low: float
    high: float
    said: float
    """Mean prediction."""
    true: Interval
    """Mean truth, with an interval over prompts."""


@dataclass(frozen=True)
class Calibration:
    """Calibration of a judge's probabilities or scores."""

    brier: Interval
    """Brier score: mean squared distance between prediction and truth."""
    ece: Interval
    """Expected calibration error, in the unit of the predictions."""
    bins: tuple[ReliabilityBin, ...]
    """Bins with any prediction, in order."""


def calibration(
    said_N: ArrayLike,
    truth_N: ArrayLike,
    *,
    prompts_N: Sequence[object] | None = None,
    span: tuple[float, float] = (0.0, 1.0),
    bins: int = 10,
    seed: int = 0,
) -> Calibration:
    """Compare a judge's predictions with the truth, in bins of equal width.

    Args:
        said_N: preference probabilities, or expected scores.
        truth_N: outcomes (1 the first response is better, 0.5 a tie, 0), or true scores.
        prompts_N: the prompt of each unit, for the intervals; left out, each its own.
        span: the range of predictions: (0, 1) for a probability, (1, 5) for a score.
        bins: number of bins.
        seed: decides the bootstrap draws.

    Raises:
        BadInput: lists of unlike lengths, or a prediction outside the span.
    """
    predicted, truth = np.asarray(said_N, np.float64), np.asarray(truth_N, np.float64)
    _check(predicted, truth, span, bins)
    low, high = span
    prompts = range(len(predicted)) if prompts_N is None else prompts_N
    bin_N = np.minimum(((predicted - low) / (high - low) * bins).astype(np.int64), bins - 1)
    return Calibration(
        brier=bootstrap_mean((predicted - truth) ** 2, prompts_N=prompts, seed=seed),
        ece=_expected_error(predicted - truth, bin_N, labels(list(prompts)), seed),
        bins=tuple(
            ReliabilityBin(
                low + (high - low) * number / bins,
                low + (high - low) * (number + 1) / bins,
                float(predicted[inside].mean()),
                bootstrap_mean(
                    truth[inside],
                    prompts_N=[p for p, is_in in zip(prompts, inside, strict=True) if is_in],
                    seed=seed,
                    is_share=True,
                ),
            )
            for number in range(bins)
            if (inside := bin_N == number).any()
        ),
    )


def _check(predicted_N: Floats, truth_N: Floats, span: tuple[float, float], bins: int) -> None:
    """Refuse lists of unlike lengths, predictions outside the span, and a span or bins of none."""
    low, high = span
    if predicted_N.shape != truth_N.shape or predicted_N.ndim != 1:
        raise BadInput(
            f"calibration: expected lists of one length: {predicted_N.shape}, {truth_N.shape}"
        )
    if bins < 1 or not low < high:
        raise BadInput(f"calibration: expected bins >= 1 and a span; got {bins}, {span}")
    if len(predicted_N) and not ((predicted_N >= low) & (predicted_N <= high)).all():
        raise BadInput(
            f"calibration: expected predictions within {low:g} to {high:g}, found "
            f"{predicted_N.min():g} to {predicted_N.max():g}"
        )


def _expected_error(
    apart_N: Floats, bin_N: np.ndarray, prompt_N: np.ndarray, seed: int
) -> Interval:
    """Sum |sum of prediction - truth| / N over bins, bootstrapped over prompts."""
    if not len(apart_N):
        return NOTHING
    prompts, bins = int(prompt_N.max()) + 1, int(bin_N.max()) + 1
    sums_PB, size_P = np.zeros((prompts, bins)), np.bincount(prompt_N).astype(np.float64)
    np.add.at(sums_PB, (prompt_N, bin_N), apart_N)
    value = float(np.abs(sums_PB.sum(0)).sum() / len(apart_N))
    counts = resample_counts(prompts, DRAWS, generator(seed, "calibration"))
    drawn = np.abs(counts @ sums_PB).sum(1) / (counts @ size_P)
    return percentile_interval(value, drawn, n=len(apart_N), units=prompts)
