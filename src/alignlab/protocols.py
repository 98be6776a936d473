"""Protocols of completers, feedback sources, judges and trackers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from alignlab.types import (
    Completion,
    CompletionRequest,
    Feedback,
    Prompt,
    Response,
)


@runtime_checkable
class Completer(Protocol):
    """Completer of chats: a local model, a server or a script."""

    name: str
    """Identity, recorded with every response; equal names mean equal behaviour."""

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in order.

        A completion depends on its request alone, not on the batch (up to rounding).
        A request that finally fails yields completions with `finish == "error"`.
        """
        ...


MakeCompleter = Callable[[str], Completer]
"""Factory of a completer from an engine spec."""


@runtime_checkable
class ChoiceScorer(Protocol):
    """Completer that also returns log-probabilities of fixed continuations."""

    name: str

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Return the log-probability in nats of each choice after messages + prefix."""
        ...


class FeedbackSource(Protocol):
    """Scorer of responses; a response without a readable score is `Unscored`."""

    name: str

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response, in the order of `flatten(items)`."""
        ...


def flatten(
    items: Sequence[tuple[Prompt, Sequence[Response]]],
) -> list[tuple[Prompt, Response]]:
    """Flatten items to (prompt, response) pairs, in order."""
    return [(prompt, response) for prompt, responses in items for response in responses]


class PairJudge(Protocol):
    """Judge of pairs of responses, each shown in both orders."""

    name: str

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Return one feedback (verdict Preference or Unscored) per item, in order."""
        ...


class Tracker(Protocol):
    """Logger of training metrics."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of one step."""
        ...
