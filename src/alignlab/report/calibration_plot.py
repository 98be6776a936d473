"""Plot gold score against reward: mean gold score in bins of a judge's reward."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignlab.report.line_chart import LineChart, Point, line_chart
from alignlab.types import Audit

MAX_LEVELS = 11
"""Maximum number of different rewards of a judge to be binned by the rewards themselves."""
BINS = 10
"""Number of bins of equal size for any other judge."""


def panels(audits: Sequence[Audit]) -> tuple[LineChart, ...]:
    """Build one panel per judge, in the order of the records."""
    bins = {}
    for source in dict.fromkeys(a.source for a in audits):
        mine = [a for a in audits if a.source == source]
        scored = [(a.reward, a.truth) for a in mine if a.reward is not None]
        if points := binned(scored):
            unscored = len(mine) - len(scored)
            note = f"n = {len(scored):,}" + (f", {unscored:,} unscored" if unscored else "")
            bins[source] = note, points
    every = [points for _, points in bins.values()]
    return tuple(
        line_chart(
            source,
            [points],
            note=note,
            x_label="judge's reward",
            y_label="true score",
            dots=True,
            adjacent=every,
        )
        for source, (note, points) in bins.items()
    )


def binned(scored: Sequence[tuple[float, float]]) -> list[Point]:
    """Compute mean gold score (95% normal interval) and mean reward per bin, by rising reward."""
    if not scored:
        return []
    reward_N, truth_N = np.array(sorted(scored), dtype=np.float64).T
    levels = np.unique(reward_N)
    if len(levels) <= MAX_LEVELS:
        bins = [reward_N == level for level in levels]
    else:
        bins = [np.isin(np.arange(len(reward_N)), part) for part in _equal_parts(len(reward_N))]
    return [_point(reward_N[which], truth_N[which]) for which in bins]


def _equal_parts(n: int) -> list[np.ndarray]:
    return [part for part in np.array_split(np.arange(n), BINS) if len(part)]


def _point(reward_N: np.ndarray, truth_N: np.ndarray) -> Point:
    mean = float(truth_N.mean())
    half = 1.96 * float(truth_N.std(ddof=1)) / len(truth_N) ** 0.5 if len(truth_N) > 1 else None
    at = float(reward_N.mean())
    return Point(
        x=at,
        y=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        title=f"reward {at:.2f}: true score {mean:.2f}, n = {len(truth_N):,}",
    )
