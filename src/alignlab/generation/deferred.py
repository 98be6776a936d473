"""Local engine whose model is loaded at the first request, so that finished stages load nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import cast

from alignlab.protocols import ChoiceScorer, Completer
from alignlab.types import Completion, CompletionRequest


class DeferredEngine:
    """Completer and choice scorer that makes another one when it is first asked."""

    def __init__(self, name: str, make: Callable[[], Completer]) -> None:
        self.name = name
        self._make = make
        self.at_once = 1
        """Chunks that it takes at once; see `at_once`."""

    @cached_property
    def _made(self) -> Completer:
        return self._make()

    def continues_text(self) -> bool:
        """Return true if the completer continues plain text, the default of completers."""
        ask = getattr(self._made, "continues_text", None)
        return True if ask is None else bool(ask())

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in order."""
        return self._made.complete(requests)

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Return the log-probability in nats of every choice after each request."""
        return cast(ChoiceScorer, self._made).choice_logprobs(requests, choices)
