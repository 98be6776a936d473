"""Growth of a figure with a size: value = at_one + per_doubling * log2(size), by least squares.

Each size counts once, by its mean over prompts and seeds. The bootstrap draws prompts (and training
seeds, crossed) and fits again; a prompt is drawn for all sizes at once, so that its difficulty
cancels. Assumption: all sizes are measured on the same prompts. A line through two sizes has no
residual: logarithmic growth can only be checked from three sizes on, where the line through all
sizes but the largest predicts the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import (
    DRAWS,
    Floats,
    Interval,
    labels,
    percentile_interval,
    resample_counts,
)
from alignlab.seeds import generator


@dataclass(frozen=True)
class LogFit:
    """Fitted line with its intervals."""

    per_doubling: Interval
    """Gain when the size doubles."""
    fitted: tuple[Interval, ...]
    """Fitted values at every size, in rising order."""
    measured: tuple[Interval, ...]
    """Means at every size, in rising order."""
    sizes: tuple[float, ...]
    """Sizes, rising."""
    r_squared: float | None
    """Share of the means' variance that the line explains; None for two sizes or equal means."""
    predicted: Interval | None
    """Value at the largest size by the line through the others; None for two sizes."""
    off: Interval | None
    """Mean at the largest size minus that prediction; None for two sizes."""


def log_fit(
    values_N: ArrayLike,
    sizes_N: ArrayLike,
    prompts_N: Sequence[object],
    *,
    seeds_N: Sequence[object] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> LogFit:
    """Fit the line to values at two or more sizes.

    Args:
        values_N: one figure per prompt, size and training seed.
        sizes_N: the size of each, above 0.
        prompts_N: the prompt of each.
        seeds_N: the training seed of each; two or more are resampled too.
        seed: decides the resampling.

    Raises:
        BadInput: fewer than two sizes, a size of 0 or less, or lists of unlike lengths.
    """
    values, size_N = np.asarray(values_N, np.float64), np.asarray(sizes_N, np.float64)
    sizes, level_N = np.unique(size_N, return_inverse=True)
    if not len(values) == len(size_N) == len(prompts_N):
        raise BadInput(
            f"log fit: expected a size and a prompt for each value, found {len(values)}, "
            f"{len(size_N)} and {len(prompts_N)}"
        )
    if len(sizes) < 2 or sizes[0] <= 0:
        raise BadInput(f"log fit: expected two or more sizes above 0, found {sizes.tolist()}")
    prompt_N = labels(prompts_N)
    seed_N = np.zeros(len(values), np.int64) if seeds_N is None else labels(seeds_N)
    shape = (int(seed_N.max()) + 1, len(sizes), int(prompt_N.max()) + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (seed_N, level_N, prompt_N), values)
    np.add.at(counts, (seed_N, level_N, prompt_N), 1.0)
    means_DS = _drawn_means(sums, counts, generator(seed, "log fit"), draws)
    means_S = sums.sum((0, 2)) / counts.sum((0, 2))
    return _fit(sizes, means_S, means_DS, counts)


def _drawn_means(sums: Floats, counts: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """Return the mean at each size in each bootstrap draw; shape (draws, sizes)."""
    prompt_DP = resample_counts(sums.shape[2], draws, rng)
    several = sums.shape[0] > 1
    seed_DZ = resample_counts(sums.shape[0], draws, rng) if several else np.ones((draws, 1))
    top = np.einsum("zsp,dp,dz->ds", sums, prompt_DP, seed_DZ, optimize=True)
    bottom = np.einsum("zsp,dp,dz->ds", counts, prompt_DP, seed_DZ, optimize=True)
    means: Floats = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
    return means


def _fit(sizes: Floats, means_S: Floats, means_DS: Floats, counts: Floats) -> LogFit:
    log_S = np.log2(sizes)
    slope, line_S = _line(log_S, means_S, log_S)
    slope_D, line_DS = _line(log_S, means_DS, log_S)
    units, n_S = counts.shape[2], counts.sum((0, 2))
    total, left = ((means_S - means_S.mean()) ** 2).sum(), ((means_S - line_S) ** 2).sum()

    def along(point_S: Floats, drawn_DS: Floats) -> tuple[Interval, ...]:
        return tuple(
            percentile_interval(float(point_S[i]), drawn_DS[:, i], n=round(n_S[i]), units=units)
            for i in range(len(sizes))
        )

    predicted = off = None
    if len(sizes) > 2:
        ahead, ahead_D = (
            _line(log_S[:-1], means[..., :-1], log_S[-1:])[1][..., 0]
            for means in (means_S, means_DS)
        )
        last, last_D, n = means_S[-1], means_DS[:, -1], round(n_S[-1])
        predicted = percentile_interval(float(ahead), ahead_D, n=n, units=units)
        off = percentile_interval(float(last - ahead), last_D - ahead_D, n=n, units=units)
    return LogFit(
        percentile_interval(float(slope), slope_D, n=round(float(n_S.sum())), units=units),
        along(line_S, line_DS),
        along(means_S, means_DS),
        tuple(map(float, sizes)),
        float(1 - left / total) if len(sizes) > 2 and total > 1e-12 else None,
        predicted,
        off,
    )


def _line(log_S: Floats, means_XS: Floats, at_T: Floats) -> tuple[Floats, Floats]:
    """Fit lines to means; return their slopes, shape (X), and values at points, shape (X, T)."""
    around_S = log_S - log_S.mean()
    slope_X = means_XS @ (around_S / (around_S**2).sum())
    start_X = means_XS.mean(-1) - slope_X * log_S.mean()
    return slope_X, start_X[..., None] + slope_X[..., None] * at_T
