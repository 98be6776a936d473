"""The roles that parts play; anything with these methods can play them."""

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
    """Anything that completes a chat: a local model, a server, a script."""

    name: str
    """Recorded with every response; two completers of one name behave the same."""

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in the order given.

        A completion depends on its request alone, not on the batch it came in (up to rounding).
        A request that fails for good yields completions with `finish == "error"`.
        """
        ...


MakeCompleter = Callable[[str], Completer]
"""Makes a completer from the spec of an engine."""


@runtime_checkable
class ChoiceScorer(Protocol):
    """A completer that can also say how likely it finds given continuations."""

    name: str

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Log-probability in nats of each choice as the continuation of messages + prefix."""
        ...


class FeedbackSource(Protocol):
    """Says how good responses are; what it cannot say is `Unscored`."""

    name: str

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Give one feedback per response, in order: items flattened, responses within an item."""
        ...


def flatten(
    items: Sequence[tuple[Prompt, Sequence[Response]]],
) -> list[tuple[Prompt, Response]]:
    """Pair every response with its prompt: items in order, responses within an item."""
    return [(prompt, response) for prompt, responses in items for response in responses]


class PairJudge(Protocol):
    """Says which of two responses is better, shown in both orders."""

    name: str

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Give one feedback (verdict Preference or Unscored) per item, in order."""
        ...


class Tracker(Protocol):
    """Receives metrics as training goes."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
