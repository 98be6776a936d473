"""Turn scores into right and wrong: 1 from a threshold on, else 0.

Outcome rewards (arXiv 2404.19733) are binary, whereas checkers give partial scores and judges
points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from alignlab.at_once import at_once
from alignlab.configs import Bounded, build
from alignlab.feedback.conversion import JudgeByScore
from alignlab.protocols import FeedbackSource, MakeCompleter
from alignlab.registry import register
from alignlab.types import Feedback, Prompt, Response, Score


@dataclass(frozen=True)
class AtLeastOptions(Bounded):
    """Options of right and wrong by a threshold."""

    score: float = 1.0
    """Lowest score of a right response."""


class AtLeast:
    """Feedback source that scores 1 where another source scores at least a threshold, else 0.

    What the other source leaves unscored stays unscored.
    """

    def __init__(self, source: FeedbackSource, score: float = 1.0) -> None:
        self._source, self._score, self.at_once = source, score, at_once(source)
        self.name = f"{source.name} >= {score:g}"
        self.files = getattr(source, "files", {})

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response, with the other source's rationale."""
        return [self._cut(feedback) for feedback in self._source.rate(items, seed)]

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Prefer the right response of two; two right or two wrong ones tie."""
        return JudgeByScore(self, name=self.name).compare(items, seed)

    def _cut(self, feedback: Feedback) -> Feedback:
        verdict = feedback.verdict
        if isinstance(verdict, Score):
            right = float(verdict.value >= self._score)
            verdict = Score(right, (right,))
        return replace(feedback, source=self.name, verdict=verdict)


@register("feedback", "at_least", options=AtLeastOptions)
def make_at_least(rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]) -> AtLeast:
    """`at_least,score=4:SPEC`: 1 for scores of the source SPEC from 4 on, else 0."""
    from alignlab.feedback.specs import judge  # which imports all sources by name

    source = judge(rest, make_completer=make_completer)
    return AtLeast(source, build(AtLeastOptions, options).score)
