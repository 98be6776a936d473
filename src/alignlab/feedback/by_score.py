"""A judge of pairs made of any source of scores: the higher score wins, equal scores tie."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.protocols import FeedbackSource
from alignlab.types import Feedback, Preference, Prompt, Response, Score, Unscored


class JudgeByScore:
    """Compares two responses by the scores that a source gives each of them on its own.

    Each response is scored without sight of the other, so there is no order to be biased by.
    """

    def __init__(self, source: FeedbackSource, *, name: str | None = None) -> None:
        self._source = source
        self.name = name or f"score by {source.name}"

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """One verdict per item; Unscored where either response has no score."""
        rated = self._source.rate([(prompt, (a, b)) for prompt, a, b in items], seed)
        return [
            self._verdict(prompt, first, second)
            for (prompt, _, _), first, second in zip(items, rated[::2], rated[1::2], strict=True)
        ]

    def _verdict(self, prompt: Prompt, first: Feedback, second: Feedback) -> Feedback:
        ids = (first.response_ids[0], second.response_ids[0])
        raw = (*first.raw, *second.raw)
        a, b = first.verdict, second.verdict
        if not isinstance(a, Score) or not isinstance(b, Score):
            reason = next(v.reason for v in (a, b) if isinstance(v, Unscored))
            return Feedback(prompt.id, ids, self.name, Unscored(reason), raw=raw)
        winner = None if a.value == b.value else (0 if a.value > b.value else 1)
        rationale = f"{a.value:g} against {b.value:g}"
        return Feedback(prompt.id, ids, self.name, Preference(winner), rationale, raw)  # type: ignore[arg-type]
