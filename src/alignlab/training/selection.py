"""Compare checkpoints on the validation prompts that both have a score for.

Means over different prompts are not compared: a judge that cannot score the answers to hard prompts
would raise a checkpoint's mean.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping

log = logging.getLogger(__name__)

Scores = Mapping[str, float]
"""Validation prompt id -> score; prompts without a score are left out."""
LEAST_SHARED = 0.5
"""Least share of the larger side's prompts on which two means are compared."""


def mean_of(scores: Scores) -> float:
    """Return the mean score; NaN without any."""
    return statistics.fmean(scores.values()) if scores else math.nan


def is_better(scores: Scores, best: Scores, name: str) -> bool:
    """Return whether scores are better than the best so far, on the prompts that both hold.

    Where both hold fewer than half of the prompts of either side, the one with more scores is
    better: the other could hardly be scored.

    Args:
        name: name of the checkpoint with `scores`, for the log.
    """
    shared = scores.keys() & best.keys()
    most = max(len(scores), len(best))
    if len(shared) < most:
        log.warning(
            "%s: %d validation answers have a score, those of the best so far %d; %d prompts have "
            "both and are compared", name, len(scores), len(best), len(shared),
        )  # fmt: skip
    if len(shared) < LEAST_SHARED * most:
        return len(scores) > len(best)
    return mean_of({k: scores[k] for k in shared}) > mean_of({k: best[k] for k in shared})
