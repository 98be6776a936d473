"""The student poster's Table 2, reproduced exactly, and why its names mislead.

Its columns keep the names of arXiv 2401.10020's reward-modelling table but measure other things:
"pairwise accuracy" is the share of scores equal to the reference's, "5-best" the precision of the
score 5, "exact match" the share of prompts with every score equal; its correlations are pooled
and count an unreadable score as the number -1. Reported beside the proper metrics
(`judge_quality`) so that the published figures can be checked; use them for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.correlation import kendall_tau_b, spearman
from alignlab.evaluation.metrics.intervals import Floats
from alignlab.evaluation.metrics.judge_quality import ScoredPrompt

UNREADABLE = -1.0
"""The number that the poster's files hold, and its correlations use, for an unreadable score."""
TOP = 5.0


@dataclass(frozen=True)
class PosterQuality:
    """The poster's five columns; None where a column is undefined."""

    poster_pairwise_accuracy: float | None
    """Share of all scores equal to the reference's."""
    poster_five_best: float | None
    """Of the scores 5, the share that are 5 in the reference too."""
    poster_exact_match: float | None
    """Share of prompts in which every score equals the reference's."""
    poster_spearman: float | None
    """Pooled, unreadable scores as -1."""
    poster_kendall_tau: float | None
    """Pooled tau-b, unreadable scores as -1."""
    scores: int
    """Scores compared, unreadable ones included, as on the poster."""
    fives: int
    """Scores 5 that the judge gave."""
    prompts: int


def poster_quality(prompts: Sequence[ScoredPrompt]) -> PosterQuality:
    """Compute the poster's columns; every prompt needs the same number of responses.

    Raises:
        BadInput: prompts with unlike numbers of responses, or none at all.
    """
    widths = sorted({len(p.judge) for p in prompts})
    if len(widths) != 1 or widths[0] == 0:
        raise BadInput(
            "the poster's columns: expected the same number of responses in every prompt, "
            f"found {widths}"
        )
    judge_PK = _filled([p.judge for p in prompts])
    reference_PK = _filled([p.reference for p in prompts])
    equal_PK = judge_PK == reference_PK
    fives = judge_PK == TOP
    return PosterQuality(
        poster_pairwise_accuracy=float(equal_PK.mean()),
        poster_five_best=float(equal_PK[fives].mean()) if fives.any() else None,
        poster_exact_match=float(equal_PK.all(axis=1).mean()),
        poster_spearman=spearman(judge_PK.ravel(), reference_PK.ravel()),
        poster_kendall_tau=kendall_tau_b(judge_PK.ravel(), reference_PK.ravel()),
        scores=int(judge_PK.size),
        fives=int(fives.sum()),
        prompts=len(prompts),
    )


def _filled(scores: Sequence[tuple[float | None, ...]]) -> Floats:
    """Scores as an array (P, K) with the poster's number for an unreadable one."""
    return np.array([[UNREADABLE if s is None else s for s in row] for row in scores], np.float64)
