"""Plot scores against KL divergence during training: a panel per score, seeds averaged by step."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from alignlab.report.line_chart import LineChart, Point, line_chart
from alignlab.types import Drift

WINDOW = 3
"""Number of neighbouring steps averaged into one point, since a step has few responses."""


def panels(drifts: Sequence[Drift]) -> tuple[LineChart, ...]:
    """Build panels of gold score, if there is one, and reward, each against the divergence."""
    found = []
    for model in dict.fromkeys(d.model for d in drifts):
        mine = [d for d in drifts if d.model == model]
        seeds = len({d.seed for d in mine})
        note = f"mean of {seeds} seeds" if seeds > 1 else ""
        for label, value in (("true score", _truth), ("reward", _reward)):
            points = averaged(mine, value)
            if points:
                found.append(
                    line_chart(
                        f"{model}: {label}",
                        [points],
                        note=note,
                        x_label="KL divergence (nats)",
                        y_label=label,
                        dots=True,
                    )
                )
    return tuple(found)


def averaged(drifts: Sequence[Drift], value: Callable[[Drift], float | None]) -> list[Point]:
    """Average over seeds and neighbouring steps, in the order of the steps."""
    known = [(d.step, d.kl, v) for d in drifts if (v := value(d)) is not None]
    steps = sorted({step for step, _, _ in known})
    points = []
    for start in range(0, len(steps), WINDOW):
        several = steps[start : start + WINDOW]
        part = [(kl, v) for step, kl, v in known if step in several]
        kl, mean = (statistics.fmean(column) for column in zip(*part, strict=True))
        title = f"steps {several[0]} to {several[-1]}: KL {kl:.2f}, {mean:.2f}"
        points.append(Point(kl, mean, title=title))
    return points


def _truth(drift: Drift) -> float | None:
    return drift.truth


def _reward(drift: Drift) -> float | None:
    return drift.reward
