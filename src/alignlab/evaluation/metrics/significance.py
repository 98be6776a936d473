"""Paired randomisation test of the difference of two models on the same prompts.

Under the null hypothesis the two models could be exchanged on every prompt, so that each prompt's
difference is as likely to have the other sign (Fisher 1935). A prompt's values (several training
seeds, say) are summed first and change sign together. All 2^P sign patterns are enumerated for few
prompts; otherwise they are drawn, and p = (1 + extreme) / (1 + drawn) (Phipson and Smyth 2010,
doi:10.2202/1544-6115.1585), which is never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Floats, Interval, bootstrap_mean, labels
from alignlab.seeds import generator

DRAWS = 10_000
_EXACT = 13
"""Most prompts whose sign patterns are all enumerated."""
_TOLERANCE = 1e-9
_ROWS = 2_000_000


@dataclass(frozen=True)
class Difference:
    """Difference of two models' figures on the same prompts."""

    interval: Interval
    """Mean difference with its paired interval over prompts."""
    p: float | None
    """Two-sided p-value of the randomisation test; None where nothing was measured."""
    prompts: int


def difference(
    first_N: ArrayLike,
    second_N: ArrayLike,
    *,
    prompts_N: Sequence[object] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Difference:
    """Compare two models' values of the same units, paired by position.

    Args:
        first_N: the one model's values.
        second_N: the other's values of the same units.
        prompts_N: the prompt of each unit; left out, every unit is a prompt of its own.
        seed: decides the resampling and the sign patterns.
        draws: sign patterns drawn.

    Raises:
        BadInput: lists of unlike lengths, or a value that is no number.
    """
    first, second = np.asarray(first_N, np.float64), np.asarray(second_N, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise BadInput(
            f"a paired difference: expected two lists of one length, got {first.shape}, "
            f"{second.shape}"
        )
    apart_N = first - second
    prompt_N = range(len(apart_N)) if prompts_N is None else prompts_N
    return Difference(
        bootstrap_mean(apart_N, prompts_N=prompt_N, seed=seed),
        sign_flip_p(apart_N, prompts_N=prompt_N, seed=seed, draws=draws) if len(apart_N) else None,
        len(set(prompt_N)),
    )


def sign_flip_p(
    apart_N: ArrayLike,
    *,
    prompts_N: Sequence[object] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> float:
    """Compute the two-sided p-value that differences are centred at 0; 1 where all are 0.

    For a win rate, pass each outcome less one half: ties are 0 and favour neither side.

    Raises:
        BadInput: a difference that is no number.
    """
    apart = np.asarray(apart_N, dtype=np.float64)
    if np.isnan(apart).any():
        raise BadInput("a paired difference: expected numbers, found NaN")
    prompt_N = np.arange(len(apart)) if prompts_N is None else labels(prompts_N)
    totals = np.bincount(prompt_N, weights=apart) if len(apart) else apart
    totals = totals[np.abs(totals) > _TOLERANCE]
    if not len(totals):
        return 1.0
    reach = abs(float(totals.sum())) - _TOLERANCE * float(np.abs(totals).sum())
    if len(totals) <= _EXACT:
        patterns = (np.arange(2 ** len(totals))[:, None] >> np.arange(len(totals))) & 1
        return float((np.abs((2.0 * patterns - 1) @ totals) >= reach).mean())
    extreme = sum(
        int((np.abs(signs @ totals) >= reach).sum()) for signs in _signs(len(totals), draws, seed)
    )
    return (1 + extreme) / (1 + draws)


def _signs(prompts: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yield random sign patterns in chunks: shape (some, prompts)."""
    rng = generator(seed, "sign flips")
    size = max(1, _ROWS // prompts)
    for start in range(0, draws, size):
        flips = rng.integers(0, 2, size=(min(size, draws - start), prompts))
        yield 2 * flips.astype(np.float64) - 1
