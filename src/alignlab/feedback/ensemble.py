"""Ensemble of sources of scores: mean, minimum, or mean penalised by disagreement.

`ensemble[,how=penalised,penalty=1,normalise=prompt]:SPEC|SPEC|...`, a weight before a source as
`2*SPEC`. The minimum is arXiv 2310.02743's worst-case optimisation; the penalised mean is its
uncertainty-weighted one with the standard deviation for the variance, so that mean and penalty
have one unit. Sources on different scales are normalised first. A response that one source leaves
unscored is unscored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from alignlab.at_once import at_once
from alignlab.configs import build
from alignlab.errors import BadInput
from alignlab.feedback.conversion import feedback_on
from alignlab.protocols import FeedbackSource, MakeCompleter
from alignlab.registry import register
from alignlab.types import Feedback, Prompt, Response, Score, Unscored, Verdict

_WEIGHTED = re.compile(r"(\d+(?:\.\d+)?)\*(.+)", re.DOTALL)


@dataclass(frozen=True)
class EnsembleOptions:
    """Options of `ensemble,`."""

    how: Literal["mean", "minimum", "penalised", "weighted"] = "mean"
    """Combination: "mean", "minimum", "penalised" (mean - penalty * standard deviation over the
    sources), or "weighted" (mean by the weights before the sources)."""
    penalty: float = 1.0
    """Standard deviations subtracted in a penalised mean."""
    normalise: Literal["none", "prompt", "call"] = "none"
    """Scaling of every source to mean 0 and standard deviation 1: over the responses to a prompt,
    over all responses rated in one call, or none. Scaled scores compare within the prompt or call
    only."""


@dataclass(frozen=True)
class Member:
    """Source of scores and its weight in the ensemble."""

    source: FeedbackSource
    weight: float = 1.0


class Ensemble:
    """Feedback source that combines the scores of several."""

    def __init__(self, members: Sequence[Member], options: EnsembleOptions | None = None) -> None:
        """Set up the ensemble.

        Raises:
            BadInput: fewer than two sources, or weights or a penalty without effect.
        """
        self._members, self._options = tuple(members), options or EnsembleOptions()
        chosen = self._options
        # Scores that are scaled over a call depend on what else is in it.
        whole = chosen.normalise == "call"
        self.at_once = 0 if whole else at_once(*(m.source for m in self._members))
        if len(self._members) < 2:
            raise BadInput(f"ensemble: expected 2 sources or more, found {len(self._members)}")
        if any(m.weight != 1 for m in self._members) != (chosen.how == "weighted"):
            raise BadInput("ensemble: expected weights with how=weighted, and only there")
        if chosen.how == "weighted" and not sum(m.weight for m in self._members) > 0:
            raise BadInput("ensemble: expected a weight above 0, found none")
        if chosen.penalty < 0 or (chosen.how != "penalised" and chosen.penalty != 1):
            raise BadInput(
                "ensemble: penalty: expected 0 or more, and only with how=penalised, found "
                f"{chosen.penalty} with how={chosen.how}"
            )
        parts = [f"{m.weight:g}*{m.source.name}" if m.weight != 1 else m.source.name
                 for m in self._members]  # fmt: skip
        penalty = f"{chosen.penalty:g} " if chosen.how == "penalised" else ""
        self.name = f"ensemble ({penalty}{chosen.how}, {chosen.normalise}): {' | '.join(parts)}"

        self.files = {
            k: v for m in self._members for k, v in getattr(m.source, "files", {}).items()
        }

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one score per response; `samples` hold the (normalised) score of every source."""
        ratings = [member.source.rate(items, seed) for member in self._members]
        score_MN = np.array([[_value(f.verdict) for f in feedback] for feedback in ratings])
        groups = self._groups(items)
        for part in groups:
            score_MN[:, part] = _normalised(score_MN[:, part])
        verdicts = [self._verdict(score_M, n, ratings) for n, score_M in enumerate(score_MN.T)]
        return feedback_on(items, self.name, verdicts)

    def _groups(self, items: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[slice]:
        """Return the slices of responses that are normalised together."""
        if self._options.normalise == "none":
            return []
        ends = np.cumsum([0, *(len(responses) for _, responses in items)]).tolist()
        if self._options.normalise == "call":
            return [slice(0, ends[-1])]
        return [slice(a, b) for a, b in pairwise(ends) if b > a]

    def _verdict(
        self, score_M: np.ndarray, n: int, ratings: Sequence[Sequence[Feedback]]
    ) -> Verdict:
        for member, feedback in zip(self._members, ratings, strict=True):
            verdict = feedback[n].verdict
            if not isinstance(verdict, Score):
                reason = verdict.reason if isinstance(verdict, Unscored) else "no score"
                return Unscored(f"{member.source.name}: {reason}")
        options = self._options
        weights = [member.weight for member in self._members]
        combined = {
            "mean": lambda: score_M.mean(),
            "minimum": lambda: score_M.min(),
            "penalised": lambda: score_M.mean() - options.penalty * score_M.std(),
            "weighted": lambda: np.average(score_M, weights=weights),
        }[options.how]()
        return Score(float(combined), tuple(float(s) for s in score_M))


@register("feedback", "ensemble", options=EnsembleOptions)
def make_ensemble(rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]) -> Ensemble:
    """`ensemble[,how=minimum,normalise=prompt]:SPEC|SPEC|...`: several sources as one."""
    from alignlab.feedback.specs import judge  # which imports all sources by name

    members = []
    for part in rest.split("|"):
        weighted = _WEIGHTED.fullmatch(part)
        weight, spec = (float(weighted[1]), weighted[2]) if weighted else (1.0, part)
        members.append(Member(judge(spec, make_completer=make_completer), weight))
    return Ensemble(members, build(EnsembleOptions, options))


def _value(verdict: Verdict) -> float:
    return verdict.value if isinstance(verdict, Score) else float("nan")


def _normalised(score_MN: np.ndarray) -> np.ndarray:
    """Scale scores, shape (M, N), to mean 0 and deviation 1 per source; equal scores become 0."""
    scaled_MN = np.full_like(score_MN, np.nan)
    for scaled_N, score_N in zip(scaled_MN, score_MN, strict=True):
        known = np.isfinite(score_N)
        if known.any():
            found = score_N[known]
            # The std of equal scores can be a rounding error, which must not be divided by.
            equal = found.min() == found.max()
            scaled_N[known] = 0.0 if equal else (found - found.mean()) / found.std()
    return scaled_MN
