"""Cache a judge's verdicts in the run as they arrive, so that no call is made twice.

Every call is a stage of the run: items go to the judge in chunks, each chunk's verdicts are written
together, and a resumed run reads the written ones. Verdicts are always read back from the records,
so that a resumed run has the figures of an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from alignlab.at_once import at_once
from alignlab.context import RunContext
from alignlab.protocols import ChoiceScorer, Completer, FeedbackSource, PairJudge
from alignlab.records import fingerprint
from alignlab.types import Completion, CompletionRequest, Feedback, Prompt, Response

T = TypeVar("T")


@dataclass(frozen=True)
class Completed:
    """Completions of one request."""

    id: str
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class Weighed:
    """Probabilities of the choices of one request."""

    id: str
    probabilities: tuple[float | None, ...]
    """From 0 to 1; None if the model returned none."""


class CachedScores:
    """Feedback source with cached scores."""

    def __init__(self, context: RunContext, source: FeedbackSource, chunk: int) -> None:
        self._context, self._source, self._chunk = context, source, chunk
        self.name = source.name

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return the source's feedback, calling it once per chunk of items."""
        plain = [(prompt, tuple(responses)) for prompt, responses in items]
        return cached_calls(
            self._context,
            self.name,
            Feedback,
            plain,
            lambda c: self._source.rate(c, seed),
            self._chunk,
            at_once(self._source),
        )


class CachedPairs:
    """Judge of pairs with cached verdicts."""

    def __init__(self, context: RunContext, judge: PairJudge, chunk: int) -> None:
        self._context, self._judge, self._chunk = context, judge, chunk
        self.name = judge.name

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Return the judge's verdicts, calling it once per chunk of items."""
        return cached_calls(
            self._context,
            self.name,
            Feedback,
            list(items),
            lambda c: self._judge.compare(c, seed),
            self._chunk,
            at_once(self._judge),
        )


class CachedModel:
    """Model with cached completions."""

    def __init__(self, context: RunContext, completer: Completer, chunk: int) -> None:
        self._context, self._completer, self._chunk = context, completer, chunk
        self.name = completer.name

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Return the model's completions, calling it once per chunk of requests."""

        def ask(some: Sequence[CompletionRequest]) -> list[Completed]:
            answers = self._completer.complete(some)
            return [Completed(r.id, a) for r, a in zip(some, answers, strict=True)]

        found = cached_calls(
            *(self._context, self.name, Completed, list(requests), ask, self._chunk),
            at_once(self._completer),
        )
        return [one.completions for one in found]


class CachedScorer(CachedModel):
    """Model with cached completions and cached log-probabilities of choices."""

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Return the model's log-probabilities, calling it once per chunk of requests."""
        scorer = self._completer
        assert isinstance(scorer, ChoiceScorer)

        def weigh(some: Sequence[CompletionRequest]) -> list[Weighed]:
            answers = scorer.choice_logprobs(some, choices)
            return [
                Weighed(r.id, tuple(None if math.isnan(x) else math.exp(x) for x in a))
                for r, a in zip(some, answers, strict=True)
            ]

        found = cached_calls(
            *(self._context, self.name, Weighed, list(requests), weigh, self._chunk),
            at_once(scorer),
        )
        return [tuple(_log(p) for p in one.probabilities) for one in found]


def cached_model(context: RunContext, completer: Completer, chunk: int) -> CachedModel:
    """Wrap a completer in a cache; one that scores choices still scores them."""
    kind = CachedScorer if isinstance(completer, ChoiceScorer) else CachedModel
    return kind(context, completer, chunk)


def cached_calls(
    context: RunContext,
    by: str,
    cls: type[T],
    items: Sequence[Any],
    call: Callable[[Sequence[Any]], list[T]],
    chunk: int,
    threads: int = 1,
) -> list[T]:
    """Return the results for the items, computed chunk by chunk in a stage of their own.

    Args:
        threads: chunks that are computed at once.
    """
    inputs = {"by": by, "items": fingerprint(list(items))}
    name = "feedback" if cls is Feedback else "answers"
    with context.run.stage("judge", inputs=inputs) as stage:
        title = context.title(f"{by} judges")
        return stage.map(name, cls, items, call, chunk=chunk, title=title, at_once=lambda: threads)


def _log(probability: float | None) -> float:
    if probability is None:
        return math.nan
    return math.log(probability) if probability > 0 else -math.inf
