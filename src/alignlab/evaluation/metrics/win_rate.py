"""Adjusted win rate: (wins + ties/2) / judged, with a paired bootstrap over prompts.

A prompt's comparisons (several training seeds, say) stay together when prompts are resampled.
Comparisons without a verdict are counted and left out. A rate whose interval covers one half is
no win: its verdict is "not distinguishable".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alignlab.evaluation.metrics.intervals import DRAWS, Interval, bootstrap_mean, wilson
from alignlab.types import Feedback, Preference

Standing = Literal["better", "worse", "not distinguishable"]

FEW_PROMPTS = 30
"""Below this many prompts the bootstrap is too narrow, and Wilson's bounds widen it."""


@dataclass(frozen=True)
class Outcome:
    """One comparison from the model's point of view."""

    prompt_id: str
    value: float | None
    """1 a win, 0.5 a tie, 0 a loss; None when the judge gave no verdict."""
    seed: int = 0
    """The training seed of the model compared."""


@dataclass(frozen=True)
class WinRate:
    """How a model fares against another."""

    wins: int
    ties: int
    losses: int
    unscored: int
    rate: Interval
    """(wins + ties/2) / judged; n = judged comparisons."""

    @property
    def verdict(self) -> Standing:
        """What the interval allows to say."""
        return standing(self.rate, 0.5)


def standing(rate: Interval, chance: float) -> Standing:
    """Better or worse than chance only where the interval leaves chance out."""
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
    """Adjusted win rate with its 95% bootstrap interval over prompts (arXiv 2402.03469).

    Args:
        outcomes: comparisons over prompts and, possibly, several training seeds.
        seed: decides the bootstrap draws.
        resample_seeds: resample training seeds as well as prompts (crossed): the interval then
            speaks of the method, not of the trained models at hand, and is wider.
    """
    judged = [o for o in outcomes if o.value is not None]
    values_N = np.array([o.value for o in judged], dtype=np.float64)
    rate = bootstrap_mean(
        values_N,
        prompts_N=[o.prompt_id for o in judged],
        seeds_N=[o.seed for o in judged] if resample_seeds else None,
        seed=seed,
        draws=draws,
    )
    return WinRate(
        wins=int((values_N > 0.5).sum()),
        ties=int((values_N == 0.5).sum()),
        losses=int((values_N < 0.5).sum()),
        unscored=len(outcomes) - len(judged),
        rate=_widened(rate, prompts=len({o.prompt_id for o in judged})),
    )


def _widened(rate: Interval, *, prompts: int) -> Interval:
    """Widen to Wilson's bounds where resampling shows too little: few prompts, or one outcome."""
    if rate.value is None or rate.low is None or rate.high is None:
        return rate
    if prompts >= FEW_PROMPTS and rate.low < rate.high:
        return rate
    bounds = wilson(rate.value * prompts, prompts)
    if bounds.low is None or bounds.high is None:
        return rate
    return Interval(rate.value, min(rate.low, bounds.low), max(rate.high, bounds.high), rate.n)
