"""Quality of a judge: order of responses by its scores against reference scores.

The metrics are those of arXiv 2401.10020, table 4. Every prompt brings K responses with the judge's
and the reference's score; a missing score is None and takes its response out of whatever needs it.
The order of responses plays no part. All intervals resample prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.correlation import (
    kendall_interval,
    kendall_tau_b,
    spearman,
    spearman_interval,
)
from alignlab.evaluation.metrics.intervals import (
    NOTHING,
    Interval,
    bootstrap_mean,
    bootstrap_ratio,
    labels,
)


@dataclass(frozen=True)
class ScoredPrompt:
    """K responses to one prompt, scored by a judge and by the reference."""

    prompt_id: str
    judge: tuple[float | None, ...]
    """Scores of the judge; None could not be read."""
    reference: tuple[float | None, ...]
    cluster: str = ""
    """Cluster of the prompt: prompts of one cluster are resampled together (one prompt judged under
    several training seeds, say); empty makes the prompt its own cluster."""

    def __post_init__(self) -> None:
        if len(self.judge) != len(self.reference):
            raise BadInput(
                f"prompt {self.prompt_id!r}: expected a reference score for each of "
                f"{len(self.judge)} judged responses, found {len(self.reference)}"
            )

    @property
    def unit(self) -> str:
        """Unit of the bootstrap: the cluster, or the prompt itself."""
        return self.cluster or self.prompt_id

    @property
    def both(self) -> tuple[tuple[float, float], ...]:
        """Pairs (judge, reference) of the responses that have both scores."""
        return tuple(
            (a, b)
            for a, b in zip(self.judge, self.reference, strict=True)
            if a is not None and b is not None
        )


@dataclass(frozen=True)
class PairCounts:
    """Counts of pairs with different reference scores, by the judge's order."""

    correct: int
    tied: int
    wrong: int

    @property
    def total(self) -> int:
        """Number of pairs whose reference scores differ."""
        return self.correct + self.tied + self.wrong


@dataclass(frozen=True)
class JudgeQuality:
    """Metrics of a judge; an `Interval` field is one row of a results table."""

    pairwise_accuracy: Interval
    """Share of pairs in the reference's order; a judge's tie is wrong."""
    pairwise_accuracy_ties_half: Interval
    """Share of pairs in the reference's order, a judge's tie counting half: chance is 0.5."""
    pairwise_accuracy_untied: Interval
    """Share of pairs in the reference's order, among those that the judge did not tie."""
    five_best: Interval
    """Share of responses with the judge's top score that have the prompt's top reference."""
    five_best_chance: Interval
    """Value of `five_best` if the top score went to a random response of the same prompt."""
    exact_match: Interval
    """Share of prompts whose whole order, ties included, agrees; all must be scored."""
    spearman: Interval
    """Spearman's correlation, pooled over all responses."""
    spearman_by_prompt: Interval
    """Spearman's correlation, mean over prompts where neither side is constant; n counts those."""
    kendall_tau: Interval
    """Kendall's tau-b, pooled over all responses."""
    kendall_tau_by_prompt: Interval
    """Kendall's tau-b, mean over prompts where neither side is constant."""
    pairs: PairCounts
    unscored: int
    """Number of responses without a judge score."""
    unreferenced: int
    """Number of responses without a reference score."""

    def intervals(self) -> list[tuple[str, Interval]]:
        """Return metric names with their intervals, in the order of the fields."""
        named = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return [(name, value) for name, value in named if isinstance(value, Interval)]


def judge_quality(
    prompts: Sequence[ScoredPrompt], *, top: float | None = None, seed: int = 0
) -> JudgeQuality:
    """Measure a judge against reference scores.

    Args:
        prompts: K responses a prompt; K may differ.
        top: the score that counts as the judge's best (`five_best`); the highest it gave if None.
        seed: decides the bootstrap draws.

    Raises:
        BadInput: a prompt with unlike numbers of scores, or a prompt id that comes twice.
    """
    ids = [p.prompt_id for p in prompts]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise BadInput(f"prompt {twice!r}: expected once, found {ids.count(twice)} times")
    pairs_P3 = np.array([_pairs(p) for p in prompts], dtype=np.float64).reshape(-1, 3)
    correct_P, tied_P, wrong_P = pairs_P3.T
    all_P = pairs_P3.sum(1)
    units = [p.unit for p in prompts]
    five, chance = _five_best(prompts, top, seed)
    return JudgeQuality(
        pairwise_accuracy=bootstrap_ratio(
            correct_P, all_P, prompts_N=units, seed=seed, is_share=True
        ),
        pairwise_accuracy_ties_half=bootstrap_ratio(
            correct_P + tied_P / 2, all_P, prompts_N=units, seed=seed, is_share=True
        ),
        pairwise_accuracy_untied=bootstrap_ratio(
            correct_P, correct_P + wrong_P, prompts_N=units, seed=seed, is_share=True
        ),
        five_best=five,
        five_best_chance=chance,
        exact_match=_exact_match(prompts, seed),
        **_correlations(prompts, seed),
        pairs=PairCounts(*(int(total) for total in pairs_P3.sum(0))),
        unscored=sum(score is None for p in prompts for score in p.judge),
        unreferenced=sum(score is None for p in prompts for score in p.reference),
    )


def _order(scores: Sequence[float]) -> list[int]:
    """Return the sign of every pair's difference: the order, ties included."""
    return [int(a > b) - int(a < b) for a, b in combinations(scores, 2)]


def _pairs(prompt: ScoredPrompt) -> tuple[int, int, int]:
    """Count correct, tied and wrong pairs of a prompt, where reference scores differ."""
    both = prompt.both
    signs = [
        judge * reference
        for judge, reference in zip(
            _order([a for a, _ in both]), _order([b for _, b in both]), strict=True
        )
        if reference != 0
    ]
    return signs.count(1), signs.count(0), signs.count(-1)


def _five_best(
    prompts: Sequence[ScoredPrompt], top: float | None, seed: int
) -> tuple[Interval, Interval]:
    """Compute the share of top scores that hold the prompt's top reference, and its chance."""
    given = [score for p in prompts for score in p.judge if score is not None]
    if not given:
        return NOTHING, NOTHING
    best = max(given) if top is None else top
    hits, chances, numbers, units = [], [], [], []
    for prompt in prompts:
        known = [score for score in prompt.reference if score is not None]
        if not known:
            continue
        # A response that the reference could not score holds no top score; it stays in the number.
        picked = [
            reference
            for judge, reference in zip(prompt.judge, prompt.reference, strict=True)
            if judge == best
        ]
        hits.append(picked.count(max(known)))
        numbers.append(len(picked))
        units.append(prompt.unit)
        chances.append(len(picked) * known.count(max(known)) / len(prompt.reference))
    return (
        bootstrap_ratio(hits, numbers, prompts_N=units, seed=seed, is_share=True),
        bootstrap_ratio(chances, numbers, prompts_N=units, seed=seed, is_share=True),
    )


def _exact_match(prompts: Sequence[ScoredPrompt], seed: int) -> Interval:
    """Compute the share of fully scored prompts (K >= 2) whose order agrees."""
    full = [p for p in prompts if len(p.both) == len(p.judge) >= 2]
    agrees = [float(_order([a for a, _ in p.both]) == _order([b for _, b in p.both])) for p in full]
    return bootstrap_ratio(
        agrees, [1.0] * len(agrees), prompts_N=[p.unit for p in full], seed=seed, is_share=True
    )


def _correlations(prompts: Sequence[ScoredPrompt], seed: int) -> dict[str, Interval]:
    """Compute the four correlations, under the names of `JudgeQuality`'s fields."""
    scored = [p for p in prompts if p.both]
    if not scored:
        names = ("spearman", "spearman_by_prompt", "kendall_tau", "kendall_tau_by_prompt")
        return dict.fromkeys(names, NOTHING)
    unit_N = np.repeat(labels([p.unit for p in scored]), [len(p.both) for p in scored])
    judge_N, reference_N = np.array([pair for p in scored for pair in p.both]).T
    return {
        "spearman": spearman_interval(judge_N, reference_N, unit_N, seed=seed),
        "spearman_by_prompt": _by_prompt(scored, spearman, seed),
        "kendall_tau": kendall_interval(judge_N, reference_N, unit_N, seed=seed),
        "kendall_tau_by_prompt": _by_prompt(scored, kendall_tau_b, seed),
    }


def _by_prompt(
    scored: Sequence[ScoredPrompt],
    measure: Callable[[ArrayLike, ArrayLike], float | None],
    seed: int,
) -> Interval:
    """Average a correlation over the prompts where it is defined; equal ones have no bounds."""
    found = [(p.unit, measure(*np.array(p.both).T)) for p in scored]
    known = [(unit, value) for unit, value in found if value is not None]
    mean = bootstrap_mean([v for _, v in known], prompts_N=[u for u, _ in known], seed=seed)
    return replace(mean, low=None, high=None) if mean.low == mean.high else mean
