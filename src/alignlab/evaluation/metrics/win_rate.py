"""Adjusted win rate: (wins + ties/2) / judged, with a paired interval over prompts.

A prompt's comparisons (several training seeds, say) stay together: the interval is a bootstrap over
prompts from 100 prompts on (and 10 prompts' worth of wins and of losses), and a score interval with
clustered variance below, where a bootstrap of a share covers too little. Comparisons without a
verdict are counted and left out. A rate whose interval covers one half is no win: its verdict is
"not distinguishable".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alignlab.evaluation.metrics.intervals import (
    DRAWS,
    FEW,
    Interval,
    bootstrap_ratio,
    share_interval,
)
from alignlab.types import Feedback, Preference

Standing = Literal["better", "worse", "not distinguishable"]

FEW_OF_A_KIND = 10
"""Prompts' worth of wins, or of losses, below which resampling covers too little."""


@dataclass(frozen=True)
class Outcome:
    """Comparison from the model's point of view."""

    prompt_id: str
    value: float | None
    """Outcome: 1 a win, 0.5 a tie, 0 a loss; None when the judge gave no verdict."""
    seed: int = 0
    """Training seed of the model compared."""


@dataclass(frozen=True)
class WinRate:
    """Win rate of a model against another, with its counts."""

    wins: int
    ties: int
    losses: int
    unscored: int
    rate: Interval
    """Adjusted win rate, (wins + ties/2) / judged; n = judged comparisons."""

    @property
    def verdict(self) -> Standing:
        """Standing of the model that the interval supports."""
        return standing(self.rate, 0.5)


def standing(rate: Interval, chance: float) -> Standing:
    """Return better or worse than chance only where the interval excludes chance."""
    if rate.low is None or rate.high is None or rate.covers(chance):
        return "not distinguishable"
    return "better" if rate.low > chance else "worse"


def outcome(feedback: Feedback, *, model_is: Literal[0, 1] = 0, seed: int = 0) -> Outcome:
    """Read a pair judge's feedback as an outcome for the response at index `model_is`."""
    verdict = feedback.verdict
    if not isinstance(verdict, Preference):
        return Outcome(feedback.prompt_id, None, seed)
    value = 0.5 if verdict.winner is None else float(verdict.winner == model_is)
    return Outcome(feedback.prompt_id, value, seed)


def win_rate(
    outcomes: Sequence[Outcome],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    resample_seeds: bool = False,
) -> WinRate:
    """Compute the adjusted win rate with its 95% interval over prompts (arXiv 2402.03469).

    Args:
        outcomes: comparisons over prompts and, possibly, several training seeds.
        seed: decides the bootstrap draws.
        resample_seeds: resample training seeds as well as prompts (crossed): the interval then
            is about the method, not the trained models at hand, and is wider.
    """
    judged = [o for o in outcomes if o.value is not None]
    values_N = np.array([o.value for o in judged], dtype=np.float64)
    prompts = [o.prompt_id for o in judged]
    rate = share_interval(values_N, prompts)
    few = _is_few(rate, prompts=len(set(prompts)))
    if resample_seeds or not few:
        seeds = [o.seed for o in judged] if resample_seeds else None
        ones_N = np.ones_like(values_N)
        drawn = bootstrap_ratio(
            values_N, ones_N, prompts_N=prompts, seeds_N=seeds, seed=seed, draws=draws,
            is_share=True,
        )  # fmt: skip
        rate = _wider(rate, drawn) if few else drawn
    return WinRate(
        wins=int((values_N > 0.5).sum()),
        ties=int((values_N == 0.5).sum()),
        losses=int((values_N < 0.5).sum()),
        unscored=len(outcomes) - len(judged),
        rate=rate,
    )


def _is_few(rate: Interval, *, prompts: int) -> bool:
    """Return True if prompts, or their wins or losses, are too few for a bootstrap of a share."""
    if rate.value is None:
        return True
    return prompts < FEW or prompts * min(rate.value, 1 - rate.value) < FEW_OF_A_KIND


def _wider(one: Interval, other: Interval) -> Interval:
    """Return the bounds that hold both intervals of one figure."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return one
    return Interval(one.value, min(one.low, other.low), max(one.high, other.high), one.n)
