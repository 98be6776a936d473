"""Put the rewards of a feedback source on a common scale: mean 0 and standard deviation 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from alignlab.errors import BadInput
from alignlab.protocols import FeedbackSource
from alignlab.types import Feedback, Prompt, Response, Score


class Standardised:
    """Feedback source whose scores are z-scores: less a mean, divided by a standard deviation.

    Rewards of different sources then weigh alike against the KL penalty of a policy gradient.
    """

    def __init__(self, source: FeedbackSource, mean: float, std: float) -> None:
        """Set the scale.

        Raises:
            BadInput: the standard deviation is not above 0.
        """
        if not std > 0:
            raise BadInput(f"reward {source.name}: expected scores that differ, found equal ones")
        self.name = f"{source.name}, standardised"
        self._source, self._mean, self._std = source, mean, std

    @classmethod
    def on(cls, source: FeedbackSource, scores: Sequence[float]) -> Standardised:
        """Take the scale of known scores of the source.

        Raises:
            BadInput: the scores are all equal, or there is none.
        """
        if len(set(scores)) < 2:  # their std can be a rounding error above 0
            return cls(source, 0.0, 0.0)
        mean = math.fsum(scores) / len(scores)
        squares = math.fsum((score - mean) ** 2 for score in scores)
        return cls(source, mean, math.sqrt(squares / len(scores)))

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return the source's feedback; scores are standardised, other verdicts stay."""
        return [self._scaled(feedback) for feedback in self._source.rate(items, seed)]

    def _scaled(self, feedback: Feedback) -> Feedback:
        if not isinstance(feedback.verdict, Score):
            return feedback
        value = (feedback.verdict.value - self._mean) / self._std
        return replace(feedback, verdict=Score(value, (value,)))
