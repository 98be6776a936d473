"""Rank correlations with bootstrap intervals over prompts: Spearman's rho and Kendall's tau-b.

Both are exact with ties (mid-ranks; tau-b), and have no bounds from fewer than 10 prompts. The
bootstrap never ranks a resampled list anew: rho reuses the sorted levels with weights, and tau-b is
a ratio of quadratic forms in the prompts' counts, tau = c'Sc / sqrt(c'Xc * c'Yc), with S, X, Y the
sums of sign products per prompt pair.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import (
    NOTHING,
    Floats,
    Interval,
    Ints,
    coefficient_interval,
    resample_counts,
)
from alignlab.seeds import generator

DRAWS = 1000
"""Bootstrap draws of a correlation by default."""
_ROWS = 256
"""Rows of the sign matrix held at once; bounds memory."""


def spearman(x_N: ArrayLike, y_N: ArrayLike) -> float | None:
    """Compute Spearman's rank correlation with mid-ranks; None where a side is constant."""
    return _weighted_spearman(*_levels(x_N, y_N), np.ones((1, len(np.asarray(x_N)))))[0]


def kendall_tau_b(x_N: ArrayLike, y_N: ArrayLike) -> float | None:
    """Compute Kendall's tau-b; None where a side is constant."""
    level_x, level_y = _levels(x_N, y_N)
    every = slice(0, len(level_x))
    sign_x, sign_y = _signs(level_x, every), _signs(level_y, every)
    untied = int(np.abs(sign_x).sum()) * int(np.abs(sign_y).sum())
    return int((sign_x * sign_y).sum()) / untied**0.5 if untied > 0 else None


def spearman_interval(
    x_N: ArrayLike, y_N: ArrayLike, prompt_N: Ints, *, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """Compute pooled Spearman, bootstrapped over prompts; `prompt_N` numbers the prompts."""
    value = spearman(x_N, y_N)
    if value is None:
        return NOTHING
    levels = _levels(x_N, y_N)
    counts = resample_counts(int(prompt_N.max()) + 1, draws, generator(seed, "spearman"))
    drawn = _weighted_spearman(*levels, counts[:, prompt_N])
    return coefficient_interval(value, _floats(drawn), n=len(prompt_N), units=counts.shape[1])


def kendall_interval(
    x_N: ArrayLike, y_N: ArrayLike, prompt_N: Ints, *, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """Compute pooled Kendall tau-b, bootstrapped over prompts; `prompt_N` numbers the prompts."""
    sums = _sign_sums(x_N, y_N, prompt_N)
    (value,) = _tau(np.ones((1, len(sums[0]))), sums)
    if value is None:
        return NOTHING
    counts = resample_counts(int(prompt_N.max()) + 1, draws, generator(seed, "kendall"))
    drawn = _floats(_tau(counts, sums))
    return coefficient_interval(value, drawn, n=len(prompt_N), units=counts.shape[1])


def _floats(values: list[float | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _levels(x_N: ArrayLike, y_N: ArrayLike) -> tuple[Ints, Ints]:
    """Return each value's position among the sorted distinct values, per side.

    Raises:
        BadInput: a value that is no number, which has no rank.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (x_N, y_N)]
    if any(np.isnan(side).any() for side in sides):
        raise BadInput("a rank correlation: expected numbers, found NaN")
    x, y = (np.unique(side, return_inverse=True)[1].astype(np.int64) for side in sides)
    return x, y


def _weighted_spearman(x_N: Ints, y_N: Ints, weights_DN: Floats) -> list[float | None]:
    """Compute Spearman of a list in which item i occurs weights[i] times, per row of weights."""
    found: list[float | None] = []
    for weight_N in weights_DN:
        rank_x, rank_y = _mid_ranks(x_N, weight_N), _mid_ranks(y_N, weight_N)
        centre = (weight_N.sum() + 1) / 2
        dx, dy = rank_x - centre, rank_y - centre
        spread = float((weight_N * dx * dx).sum() * (weight_N * dy * dy).sum())
        found.append(float((weight_N * dx * dy).sum()) / spread**0.5 if spread > 1e-9 else None)
    return found


def _mid_ranks(level_N: Ints, weight_N: Floats) -> Floats:
    """Return mid-ranks (from 1) of items that occur `weight` times each."""
    per_level = np.bincount(level_N, weights=weight_N)
    ends = np.cumsum(per_level)
    middle: Floats = ends - (per_level - 1) / 2
    ranks: Floats = middle[level_N]
    return ranks


def _sign_sums(x_N: ArrayLike, y_N: ArrayLike, prompt_N: Ints) -> tuple[Floats, Floats, Floats]:
    """Sum sign products of item pairs, per pair of prompts: (xy, xx, yy), each (P, P)."""
    order = np.argsort(prompt_N, kind="stable")
    level_x, level_y = (level_N[order] for level_N in _levels(x_N, y_N))
    prompt_N = prompt_N[order]
    starts = np.flatnonzero(np.diff(prompt_N, prepend=-1))
    sums = tuple(np.zeros((len(starts), len(starts))) for _ in range(3))
    for start in range(0, len(order), _ROWS):
        rows = slice(start, start + _ROWS)
        sign_x, sign_y = _signs(level_x, rows), _signs(level_y, rows)
        row_starts = np.flatnonzero(np.diff(prompt_N[rows], prepend=-1))
        for total, product in zip(
            sums, (sign_x * sign_y, np.abs(sign_x), np.abs(sign_y)), strict=True
        ):
            per_row_prompt = np.add.reduceat(product, row_starts, axis=0)
            by_prompt = np.add.reduceat(per_row_prompt, starts, axis=1, dtype=np.int64)
            total[prompt_N[rows][row_starts]] += by_prompt
    return sums[0], sums[1], sums[2]


def _signs(level_N: Ints, rows: slice) -> NDArray[np.int16]:
    """Return the sign of each row item's level minus every item's; `_ROWS` of them fit."""
    levels = level_N.astype(np.int32)
    signs: NDArray[np.int16] = np.sign(levels[rows, None] - levels[None, :]).astype(np.int16)
    return signs


def _tau(counts_DP: Floats, sums: tuple[Floats, Floats, Floats]) -> list[float | None]:
    """Compute tau-b of each row of prompt counts, from the sums of sign products."""
    forms = [((counts_DP @ part) * counts_DP).sum(1) for part in sums]
    return [
        float(xy) / float(xx * yy) ** 0.5 if xx > 0 and yy > 0 else None
        for xy, xx, yy in zip(*forms, strict=True)
    ]
