"""Adjustment of p-values for several comparisons, so that a table keeps its error rate.

An adjusted p-value is compared with the level like a single one. Holm's bounds the chance of any
false finding by the level, under any dependence; Benjamini and Hochberg's bounds the expected share
of false findings among the findings (independent or positively dependent tests).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Floats


def holm(p_N: ArrayLike) -> Floats:
    """Adjust p-values by Holm's step-down method (1979): shape (N,), in the order given.

    Raises:
        BadInput: a p-value outside [0, 1].
    """
    p, order = _sorted(p_N)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _back(stepped, order)


def benjamini_hochberg(p_N: ArrayLike) -> Floats:
    """Adjust p-values by Benjamini and Hochberg's step-up method (1995): shape (N,).

    Raises:
        BadInput: a p-value outside [0, 1].
    """
    p, order = _sorted(p_N)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _back(np.minimum.accumulate(scaled[::-1])[::-1], order)


def _sorted(p_N: ArrayLike) -> tuple[Floats, np.ndarray]:
    p = np.asarray(p_N, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise BadInput("adjusting p-values: expected a list of numbers from 0 to 1")
    return p, np.argsort(p, kind="stable")


def _back(adjusted: Floats, order: np.ndarray) -> Floats:
    found = np.empty_like(adjusted)
    found[order] = np.minimum(adjusted, 1.0)
    return found
