"""Truth of one principle of the offline world: a point of the oracle's, or brevity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alignlab.errors import unknown_name
from alignlab.protocols import flatten
from alignlab.sandbox.oracle import assess
from alignlab.sandbox.questions import parse_question
from alignlab.seeds import generator
from alignlab.types import Feedback, Prompt, Response, Score, Unscored, Verdict

FILE = Path(__file__).with_name("principles.txt")
"""Principles with their negations."""
POINTS = (
    "about the town", "much of what was asked", "nothing false", "clear and not repeated",
    "complete",
)  # fmt: skip
"""Principles that are the oracle's points, in their order."""
BRIEF = "brief"
LONG_WORDS = 20
"""Words of an answer at which "brief" loses a point."""


class PointOracle:
    """Feedback source that scores by one principle alone, optionally with noise."""

    def __init__(self, principle: str, noise: float = 0.0) -> None:
        """Choose the principle.

        Args:
            principle: one of `POINTS`: 1 where the oracle gives the point, else 0; or "brief": 0
                less one for every 20 words.
            noise: standard deviation of a Gaussian error of each score.

        Raises:
            BadInput: the principle is none of the sandbox's.
        """
        if principle not in (*POINTS, BRIEF):
            raise unknown_name("sandbox principle", principle, (*POINTS, BRIEF))
        self._principle, self._noise = principle, noise
        self.name = f"sandbox:points ({principle})" + (f"?noise={noise:g}" if noise else "")

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one score per response; responses to unknown questions are unscored."""
        return [self._rate_one(prompt, response, seed) for prompt, response in flatten(items)]

    def _rate_one(self, prompt: Prompt, response: Response, seed: int) -> Feedback:
        question = parse_question(prompt.text)
        verdict: Verdict = Unscored("the question makes no sense in the sandbox")
        if question is not None:
            value = -len(response.text.split()) / LONG_WORDS
            if self._principle != BRIEF:
                lost = assess(prompt.text, question, response.text).lost
                value = float(not lost[POINTS.index(self._principle)])
            rng = generator(seed, "points", self._principle, response.id)
            value += float(rng.normal(0.0, self._noise)) if self._noise else 0.0
            verdict = Score(value, (value,))
        return Feedback(prompt.id, (response.id,), self.name, verdict)
