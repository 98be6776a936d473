"""Conversion between judges of pairs and sources of scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

from alignlab.at_once import at_once
from alignlab.protocols import FeedbackSource, PairJudge, flatten
from alignlab.types import Feedback, Preference, Prompt, Response, Score, Unscored, Verdict


def finite_score(value: float, samples: tuple[float | None, ...] = ()) -> Score | Unscored:
    """Return a model's figure as a score; NaN and infinity are Unscored."""
    return Score(value, samples) if math.isfinite(value) else Unscored("the score is not finite")


def feedback_on(
    items: Sequence[tuple[Prompt, Sequence[Response]]], source: str, verdicts: Iterable[Verdict]
) -> list[Feedback]:
    """Return one feedback per response, from verdicts in the order of `flatten`."""
    return [
        Feedback(prompt.id, (response.id,), source, verdict)
        for (prompt, response), verdict in zip(flatten(items), verdicts, strict=True)
    ]


class KnownFeedback:
    """Source that repeats earlier feedback, so that no response is judged (or paid for) twice."""

    def __init__(self, name: str, feedback: Iterable[Feedback]) -> None:
        self.name = name
        self._known = {f.response_ids[0]: f for f in feedback}

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return the known feedback on every response."""
        return [self._known[response.id] for _, responses in items for response in responses]


class JudgeByScore:
    """Judge of pairs that compares the scores a source gives each response on its own.

    Each response is scored without sight of the other, so there is no order to be biased by.
    """

    def __init__(self, source: FeedbackSource, *, name: str | None = None) -> None:
        self.source, self.at_once = source, at_once(source)
        self.name = name or f"score by {source.name}"

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Return one verdict per item; Unscored where either response has no score."""
        rated = self.source.rate([(prompt, (a, b)) for prompt, a, b in items], seed)
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


class ScoreByPairs:
    """Source of scores from comparisons of a prompt's responses: 0 (none won) to 1 (all won).

    All pairs of a prompt's responses are compared; a tie is half a win (a round robin, as win rates
    are counted by AlpacaEval and Vicuna-Bench). Comparisons without a verdict are left out; a
    response that has none left is unscored.
    """

    def __init__(self, judge: PairJudge) -> None:
        self._judge, self.at_once = judge, at_once(judge)
        self.name = f"{judge.name}, share won"

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response; samples are its comparisons: 1 won, 0.5 tie, 0 lost."""
        pairs = [
            (prompt, a, b) for prompt, responses in items for a, b in combinations(responses, 2)
        ]
        outcomes: dict[str, list[float | None]] = {r.id: [] for _, r in flatten(items)}
        raw: dict[str, list[str]] = {key: [] for key in outcomes}
        for (_, a, b), found in zip(pairs, self._judge.compare(pairs, seed), strict=True):
            first = _share(found.verdict)
            outcomes[a.id].append(first)
            outcomes[b.id].append(None if first is None else 1 - first)
            for one in (a, b):
                raw[one.id] += found.raw
        return [
            Feedback(p.id, (r.id,), self.name, _verdict(outcomes[r.id]), raw=tuple(raw[r.id]))
            for p, r in flatten(items)
        ]


def _share(verdict: Verdict) -> float | None:
    """Return the share of a win that the first of two responses gets; None without a verdict."""
    if not isinstance(verdict, Preference):
        return None
    return 0.5 if verdict.winner is None else float(verdict.winner == 0)


def _verdict(outcomes: Sequence[float | None]) -> Verdict:
    if not outcomes:
        return Unscored("no other response to compare with")
    read = [outcome for outcome in outcomes if outcome is not None]
    if not read:
        return Unscored("no readable comparison")
    return Score(sum(read) / len(read), tuple(outcomes))
