"""Intervals: seeded bootstrap over prompts (clustered, and crossed with seeds) and Wilson's.

The bootstrap resamples whole prompts, never single judgements: what was measured on one prompt
(several responses, several training seeds) stays together, and two models measured on the same
prompts are resampled together, which makes a comparison paired. Percentile bounds (Efron 1979).
Crossed resampling draws prompts and seeds independently and multiplies their counts, the
"pigeonhole" bootstrap of Owen (2007, doi:10.1214/07-AOAS122), which errs on the wide side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignlab.errors import BadInput
from alignlab.seeds import generator

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DRAWS = 2000
"""Bootstrap draws by default."""
LEVEL = 0.95
"""Coverage of every interval the project reports."""
_CELLS = 4_000_000
"""Most counts held at once while drawing; bounds memory, never changes a figure."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% bounds; all None when nothing could be measured."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Units the value rests on."""

    def covers(self, point: float) -> bool:
        """Whether the interval holds the point; an unmeasured figure holds every point."""
        if self.low is None or self.high is None:
            return True
        return self.low <= point <= self.high


NOTHING = Interval(None, None, None, 0)


def labels(names: Sequence[object]) -> Ints:
    """Each name's index among the distinct names, in order of first appearance; shape (N,)."""
    first: dict[object, int] = {}
    return np.array([first.setdefault(name, len(first)) for name in names], dtype=np.int64)


def resample_counts(units: int, draws: int, rng: np.random.Generator) -> Floats:
    """How often each unit occurs in each bootstrap draw; shape (draws, units)."""
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
) -> Interval:
    """Mean of the values with a bootstrap interval over prompts.

    Args:
        values_N: one value per unit.
        prompts_N: the prompt of each unit; left out, every unit is a prompt of its own.
        seeds_N: the training seed of each unit; given, seeds are resampled too (crossed).
    """
    values = np.asarray(values_N, dtype=np.float64)
    return bootstrap_ratio(
        values, np.ones_like(values), prompts_N=prompts_N, seeds_N=seeds_N, seed=seed, draws=draws
    )


def bootstrap_ratio(
    numerators_N: ArrayLike,
    denominators_N: ArrayLike,
    *,
    prompts_N: Sequence[object] | None = None,
    seeds_N: Sequence[object] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Interval:
    """Sum of numerators over sum of denominators, bootstrapped over prompts; n = sum of the latter.

    A share of pairs or of responses is such a ratio: each prompt brings its own numbers.
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
    return percentile_interval(float(top_N.sum()) / total, np.concatenate(drawn), n=round(total))


def percentile_interval(value: float, drawn: Floats, *, n: int) -> Interval:
    """The value with the percentile bounds of its bootstrap draws (undefined draws left out)."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or not math.isfinite(value):
        return NOTHING
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    # The percentile bounds of a discrete statistic can miss the value by a rounding error.
    return Interval(value, min(float(low), value), max(float(high), value), n)


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval of a share (Wilson 1927); halves (ties) are allowed as successes.

    Raises:
        BadInput: more successes than n, or a negative number.
    """
    if not 0 <= successes <= n:
        raise BadInput(f"a share needs 0 <= successes <= n; got {successes} of {n}")
    if n == 0:
        return NOTHING
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(
        share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)), n
    )


def _chunks(draws: int, units: int) -> list[int]:
    """Split the draws so that a chunk's counts stay within the memory bound."""
    size = max(1, min(draws, _CELLS // max(1, units)))
    return [min(size, draws - start) for start in range(0, draws, size)]
