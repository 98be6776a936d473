"""Compute figures of slices fast enough for a page, with intervals clustered by prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignlab.evaluation.metrics.intervals import NOTHING, Interval, bootstrap_mean, labels

MANY = 2000
"""Number of prompts from which the normal approximation replaces the bootstrap."""
_QUANTILE = 1.959963984540054


def slice_mean(
    values_N: Sequence[float], prompts_N: Sequence[object], *, many: int = MANY
) -> Interval:
    """Compute a mean with its 95% interval over prompts.

    Below `many` prompts the project's bootstrap; above, the linearised variance of a ratio of
    cluster sums (Cochran 1977, section 6.4), from which the bootstrap does not differ visibly.
    """
    if len(values_N) == 0:
        return NOTHING
    prompt_N = labels(prompts_N)
    units = int(prompt_N.max()) + 1
    if units < many:
        return bootstrap_mean(values_N, prompts_N=prompts_N)
    values = np.asarray(values_N, dtype=np.float64)
    mean = float(values.mean())
    residuals = np.bincount(prompt_N, weights=values - mean, minlength=units)
    error = float(np.sqrt(units / (units - 1) * np.sum(residuals**2)) / len(values))
    return Interval(mean, mean - _QUANTILE * error, mean + _QUANTILE * error, len(values))
