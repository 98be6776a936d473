"""Power of a comparison: smallest difference it detects, and prompts that a difference needs.

Normal approximation of a two-sided test: a mean difference whose values have standard deviation s
is detected with the wanted power when it is (z(1 - level/2) + z(power)) * s / sqrt(n) (Lehr 1992;
Card and others 2020, arXiv 2010.06595, for model comparisons). n counts prompts; several judgements
of one prompt do not add up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import LEVEL, Floats


@dataclass(frozen=True)
class Design:
    """Error rates of a comparison."""

    level: float = 1 - LEVEL
    """Chance of a finding where there is none; divide it by the number of comparisons for a table
    of several."""
    power: float = 0.8
    """Chance of finding a difference of the given size."""

    def __post_init__(self) -> None:
        if not (0 < self.level < 1 and 0 < self.power < 1):
            raise BadInput(f"level and power lie between 0 and 1; got {self.level}, {self.power}")

    @property
    def quantiles(self) -> float:
        """Sum of quantiles z(1 - level/2) + z(power)."""
        normal = NormalDist()
        return normal.inv_cdf(1 - self.level / 2) + normal.inv_cdf(self.power)


def detectable(n: int, spread: float, design: Design = Design()) -> float:
    """Return the smallest mean difference that n prompts detect.

    Args:
        n: prompts.
        spread: standard deviation of the per-prompt difference (`win_spread`, `paired_spread`).
        design: level and power.

    Raises:
        BadInput: no prompts, or a negative spread.
    """
    if n < 1 or spread < 0:
        raise BadInput(f"power: expected n >= 1 and a spread >= 0; got {n}, {spread}")
    return design.quantiles * spread / math.sqrt(n)


def crossed_error(values_SP: Floats) -> float:
    """Return the standard error of the mean of values by training seed and prompt.

    The variance of the prompts' means plus, with several seeds, that of the seeds' means; this
    counts the remainder twice and so errs on the wide side. `detectable(1, error)` is the smallest
    mean difference that so many prompts and seeds detect.

    Args:
        values_SP: differences of two models, NaN where there is none; shape (S, P).

    Raises:
        BadInput: fewer than two prompts.
    """
    values_SP = values_SP[:, np.isfinite(values_SP).any(axis=0)]
    if values_SP.shape[1] < 2:
        raise BadInput(f"power: expected 2 prompts or more, found {values_SP.shape[1]}")
    means = [np.nanmean(values_SP, axis=0)]
    if len(values_SP) > 1:
        means.append(np.nanmean(values_SP, axis=1))
    return math.sqrt(sum(float(np.nanvar(m, ddof=1)) / len(m) for m in means))


def prompts_needed(apart: float, spread: float, design: Design = Design()) -> int:
    """Return the number of prompts that a mean difference of a size needs.

    Raises:
        BadInput: no difference, or a negative spread.
    """
    if apart <= 0 or spread < 0:
        raise BadInput(f"power: expected a difference > 0 and a spread >= 0; got {apart}, {spread}")
    return max(1, math.ceil((design.quantiles * spread / apart) ** 2 - 1e-9))


def win_spread(tie_share: float = 0.0) -> float:
    """Return the standard deviation of one outcome (win 1, tie 1/2, loss 0) between equal models.

    Raises:
        BadInput: a share outside [0, 1].
    """
    if not 0 <= tie_share <= 1:
        raise BadInput(f"a share of ties lies between 0 and 1; got {tie_share}")
    return math.sqrt(1 - tie_share) / 2


def paired_spread(spread: float, correlation: float = 0.0) -> float:
    """Return the standard deviation of the difference of two models' scores on a prompt.

    Args:
        spread: standard deviation of either model's scores over prompts.
        correlation: correlation of the two models' scores over prompts, the gain of pairing.

    Raises:
        BadInput: a negative spread, or a correlation outside [-1, 1].
    """
    if spread < 0 or not -1 <= correlation <= 1:
        raise BadInput(f"power: got a spread of {spread} and a correlation of {correlation}")
    return spread * math.sqrt(2 * (1 - correlation))
