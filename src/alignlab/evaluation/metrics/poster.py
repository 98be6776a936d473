"""Table 2 of the student poster, reproduced exactly.

Its columns have the names of arXiv 2401.10020's reward-modelling table but measure other things:
"pairwise accuracy" is the share of scores equal to the reference's, "5-best" the precision of the
score 5, "exact match" the share of prompts with every score equal; its correlations are pooled and
count an unreadable score as the number -1. Reported with the proper metrics (`judge_quality`) so
that the published figures can be checked; use them for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.correlation import kendall_tau_b, spearman
from alignlab.evaluation.metrics.judge_quality import ScoredPrompt

UNREADABLE = -1.0
"""Number in the poster's files, and in its correlations, for an unreadable score."""
TOP = 5.0


@dataclass(frozen=True)
class PosterQuality:
    """Columns of the poster; None where a column is undefined."""

    poster_pairwise_accuracy: float | None
    """Share of all scores equal to the reference's."""
    poster_five_best: float | None
    """Share of the scores 5 that are 5 in the reference too."""
    poster_exact_match: float | None
    """Share of prompts in which every score equals the reference's."""
    poster_spearman: float | None
    """Spearman's correlation, pooled, unreadable scores as -1."""
    poster_kendall_tau: float | None
    """Kendall's tau-b, pooled, unreadable scores as -1."""
    scores: int
    """Number of scores compared, unreadable ones included, as on the poster."""
    fives: int
    """Number of scores 5 by the judge."""
    prompts: int


def poster_quality(prompts: Sequence[ScoredPrompt]) -> PosterQuality:
    """Compute the poster's columns; prompts may have unlike numbers of responses.

    Raises:
        BadInput: no responses at all.
    """
    judge_N, reference_N = (
        np.array([UNREADABLE if s is None else s for s in side], np.float64)
        for side in (
            [score for p in prompts for score in p.judge],
            [score for p in prompts for score in p.reference],
        )
    )
    if not len(judge_N):
        raise BadInput("the poster's columns: expected scored responses, found none")
    equal_N = judge_N == reference_N
    fives_N = judge_N == TOP
    starts = np.cumsum([0, *(len(p.judge) for p in prompts)])[:-1]
    return PosterQuality(
        poster_pairwise_accuracy=float(equal_N.mean()),
        poster_five_best=float(equal_N[fives_N].mean()) if fives_N.any() else None,
        poster_exact_match=float(np.logical_and.reduceat(equal_N, starts).mean()),
        poster_spearman=spearman(judge_N, reference_N),
        poster_kendall_tau=kendall_tau_b(judge_N, reference_N),
        scores=len(judge_N),
        fives=int(fives_N.sum()),
        prompts=len(prompts),
    )
