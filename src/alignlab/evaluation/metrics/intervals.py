"""Intervals: seeded bootstrap over prompts (clustered, and crossed with seeds) and Wilson's.

The bootstrap resamples whole prompts, never single judgements: values measured on one prompt
(several responses, several training seeds) stay together, and two models measured on the same
prompts are resampled together, which makes a comparison paired. Percentile bounds (Efron 1979),
expanded below 100 prompts, where plain ones are too narrow (Hesterberg 2015, arXiv 1411.5279,
section 5.3: the tails are those of Student's t and of the sample's variance with n - 1). Shares of
successes have Wilson's score interval; with several judgements a prompt, or with ties, it takes the
number of independent ones that the clustered variance amounts to (Korn and Graubard 1998; compared
by Dean and Pagano 2015, doi:10.1093/jssam/smv024). `benchmarks/coverage.py` measures the coverage
of these intervals. Crossed resampling draws prompts and seeds independently and multiplies their
counts, the "pigeonhole" bootstrap of Owen (2007, doi:10.1214/07-AOAS122), which errs on the wide
side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from alignlab.errors import BadInput
from alignlab.seeds import generator

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DRAWS = 2000
"""Bootstrap draws by default."""
LEVEL = 0.95
"""Coverage of every interval in the project."""
FEW = 100
"""Number of prompts below which bounds are corrected; above, widths change by less than 2%."""
FEWEST = 10
"""Fewest prompts from which a coefficient (rank correlation, kappa, alpha) gets bounds."""
_CELLS = 4_000_000
"""Most counts held at once while drawing; bounds memory, never changes a figure."""


@dataclass(frozen=True)
class Interval:
    """Figure with its 95% bounds; all None when nothing could be measured."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Number of units behind the value."""

    def covers(self, point: float) -> bool:
        """Return True if the interval holds the point; an unmeasured figure holds every point."""
        if self.low is None or self.high is None:
            return True
        return self.low <= point <= self.high


NOTHING = Interval(None, None, None, 0)


def labels(names: Sequence[object]) -> Ints:
    """Return each name's index among distinct names, in order of first appearance; shape (N,)."""
    first: dict[object, int] = {}
    return np.array([first.setdefault(name, len(first)) for name in names], dtype=np.int64)


def resample_counts(units: int, draws: int, rng: np.random.Generator) -> Floats:
    """Count occurrences of each unit in each bootstrap draw; shape (draws, units)."""
    picks = rng.integers(0, units, size=(draws, units))
    offsets = np.arange(draws)[:, None] * units
    return (
        np.bincount((picks + offsets).ravel(), minlength=draws * units)
        .reshape(draws, units)
        .astype(np.float64)
    )


def bootstrap_mean(
    values_N: ArrayLike,
    *,
    prompts_N: Sequence[object] | None = None,
    seeds_N: Sequence[object] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
    is_share: bool = False,
) -> Interval:
    """Compute the mean of the values with a bootstrap interval over prompts.

    Args:
        values_N: one value per unit.
        prompts_N: the prompt of each unit; left out, every unit is a prompt of its own.
        seeds_N: the training seed of each unit; given, seeds are resampled too (crossed).
        is_share: values lie in [0, 1]; where all are alike, Wilson's bounds are returned.
    """
    values = np.asarray(values_N, dtype=np.float64)
    return bootstrap_ratio(
        values,
        np.ones_like(values),
        prompts_N=prompts_N,
        seeds_N=seeds_N,
        seed=seed,
        draws=draws,
        is_share=is_share,
    )


def bootstrap_ratio(
    numerators_N: ArrayLike,
    denominators_N: ArrayLike,
    *,
    prompts_N: Sequence[object] | None = None,
    seeds_N: Sequence[object] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
    is_share: bool = False,
) -> Interval:
    """Compute sum of numerators / sum of denominators (its n), bootstrapped over prompts.

    A share of pairs or of responses is such a ratio, with its own numbers for each prompt.

    Args:
        numerators_N: one per unit.
        denominators_N: one per unit, 0 or more.
        prompts_N: the prompt of each unit; left out, every unit is a prompt of its own.
        seeds_N: the training seed of each unit; given, seeds are resampled too (crossed).
        is_share: numerators lie between 0 and the denominators; where all prompts are alike, which
            resampling cannot vary, Wilson's bounds for the prompts are returned.
    """
    top_N = np.asarray(numerators_N, dtype=np.float64)
    bottom_N = np.asarray(denominators_N, dtype=np.float64)
    total = float(bottom_N.sum())
    if total <= 0:
        return NOTHING
    prompt_N = np.arange(len(top_N)) if prompts_N is None else labels(prompts_N)
    seed_N = np.zeros(len(top_N), dtype=np.int64) if seeds_N is None else labels(seeds_N)
    shape = (int(seed_N.max()) + 1, int(prompt_N.max()) + 1)
    table_top, table_bottom = np.zeros(shape), np.zeros(shape)
    np.add.at(table_top, (seed_N, prompt_N), top_N)
    np.add.at(table_bottom, (seed_N, prompt_N), bottom_N)
    rng = generator(seed, "bootstrap")
    drawn: list[Floats] = []
    for some in _chunks(draws, shape[1]):
        counts = resample_counts(shape[1], some, rng)
        by_seed_top, by_seed_bottom = counts @ table_top.T, counts @ table_bottom.T
        weights = (
            resample_counts(shape[0], some, rng) if seeds_N is not None else np.ones((some, 1))
        )
        sums = (by_seed_top * weights).sum(1), (by_seed_bottom * weights).sum(1)
        drawn.append(np.divide(*sums, out=np.full(some, np.nan), where=sums[1] > 0))
    value, several = float(top_N.sum()) / total, np.concatenate(drawn)
    if is_share and not np.nanmax(np.abs(several - value)) > 1e-12:
        return alike(value, float((table_bottom.sum(0) > 0).sum()), n=round(total))
    return percentile_interval(value, several, n=round(total), units=shape[1])


def alike(share: float, prompts: float, *, n: int) -> Interval:
    """Return Wilson's bounds of a share that is the same for every prompt.

    Args:
        share: the share, in [0, 1].
        prompts: number of prompts, or the number of equal ones that weighted prompts amount to.
        n: number of units reported with the share.
    """
    found = wilson(min(1.0, max(0.0, share)) * prompts, prompts)
    return Interval(share, found.low, found.high, n)


def tail(units: int) -> float:
    """Return the share of bootstrap draws beyond each bound, for a number of resampled units."""
    plain = (1 - LEVEL) / 2
    if units >= FEW:
        return plain
    if units < 2:
        return 0.0
    quantile = float(stdtrit(units - 1, plain))
    return float(ndtr(quantile * math.sqrt(units / (units - 1))))


def percentile_interval(value: float, drawn: Floats, *, n: int, units: int) -> Interval:
    """Return the value with the percentile bounds of its bootstrap draws (undefined ones left out).

    Args:
        value: the figure.
        drawn: the figure in each bootstrap draw.
        n: number of units reported with the figure.
        units: number of prompts resampled; few of them widen the bounds, a single one has none.
    """
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or not math.isfinite(value):
        return NOTHING
    if units < 2:
        return Interval(value, None, None, n)
    outside = tail(units)
    low, high = np.quantile(drawn, [outside, 1 - outside])
    # The percentile bounds of a discrete statistic can miss the value by a rounding error.
    return Interval(value, min(float(low), value), max(float(high), value), n)


def coefficient_interval(value: float, drawn: Floats, *, n: int, units: int) -> Interval:
    """Return a coefficient of order or agreement with its percentile bounds, where there are any.

    Few prompts, or prompts in perfect order, give draws that are all but the same: no bounds from
    fewer than `FEWEST` prompts, nor of no width. Arguments as in `percentile_interval`.
    """
    found = percentile_interval(value, drawn, n=n, units=units)
    bounded = units >= FEWEST and found.low != found.high
    return found if bounded else replace(found, low=None, high=None)


def wilson(successes: float, n: float) -> Interval:
    """Compute Wilson's score interval of a share (Wilson 1927).

    Halves (ties) are allowed as successes, and parts of a trial, where n is the number of trials
    that a variance amounts to.

    Raises:
        BadInput: more successes than n, or a negative number.
    """
    if not 0 <= successes <= n:
        raise BadInput(f"a share needs 0 <= successes <= n; got {successes} of {n}")
    if n == 0:
        return NOTHING
    quantile = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    return _score_interval(successes / n, float(n), quantile, round(n))


def share_interval(values_N: ArrayLike, prompts_N: Sequence[object] | None = None) -> Interval:
    """Compute the mean of values in [0, 1] with a score interval for ties and clusters.

    The variance is that of the prompts' totals around the mean (cluster-robust); p(1 - p) over it
    is the number of independent trials that the score interval takes, with Student's quantile for
    the number of prompts less one. One value only, or one prompt: Wilson's bounds for the prompts.

    Args:
        values_N: 1 a success, 0.5 a tie, 0 a failure, or anything between.
        prompts_N: the prompt of each value; left out, every value is a prompt of its own.

    Raises:
        BadInput: a value outside [0, 1].
    """
    values = np.asarray(values_N, dtype=np.float64)
    if not len(values):
        return NOTHING
    if not ((values >= 0) & (values <= 1)).all():
        raise BadInput(f"a share needs values in [0, 1]; got {values.min():g} to {values.max():g}")
    prompt_N = np.arange(len(values)) if prompts_N is None else labels(prompts_N)
    share, prompts = float(values.mean()), int(prompt_N.max()) + 1
    totals = np.bincount(prompt_N, weights=values - share)
    if prompts < 2 or not np.abs(totals).max() > 1e-12:
        found = wilson(share * prompts, prompts)
        return Interval(share, found.low, found.high, len(values))
    variance = float((totals**2).sum()) * prompts / (prompts - 1) / len(values) ** 2
    quantile = float(stdtrit(prompts - 1, 0.5 + LEVEL / 2))
    return _score_interval(share, share * (1 - share) / variance, quantile, len(values))


def _score_interval(share: float, trials: float, quantile: float, n: int) -> Interval:
    """Compute Wilson's bounds from a number of independent trials and a normal quantile."""
    square = quantile * quantile
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    spread = share * (1 - share) / trials + square / (4 * trials * trials)
    half = quantile / (1 + square / trials) * math.sqrt(spread)
    return Interval(
        share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)), n
    )


def _chunks(draws: int, units: int) -> list[int]:
    """Split the draws so that a chunk's counts stay within the memory bound."""
    size = max(1, min(draws, _CELLS // max(1, units)))
    return [min(size, draws - start) for start in range(0, draws, size)]
