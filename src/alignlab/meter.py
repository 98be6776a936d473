"""Count calls, tokens and dollars of all completers, in each thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from alignlab.protocols import ChoiceScorer, Completer
from alignlab.types import Completion, CompletionRequest, Usage


class _Counter(threading.local):
    total = Usage()


_counter = _Counter()


def mark() -> Usage:
    """Return the usage of this thread so far."""
    return _counter.total


def since(before: Usage) -> Usage:
    """Return the usage of this thread since a mark."""
    total = _counter.total
    return Usage(
        total.prompt_tokens - before.prompt_tokens,
        total.tokens - before.tokens,
        total.calls - before.calls,
        total.usd - before.usd,
    )


def add(usage: Usage) -> None:
    """Count usage in this thread, as of calls that another thread made for it."""
    _counter.total += usage


def metered(completer: Completer) -> Completer:
    """Wrap a completer to count its calls; a `ChoiceScorer` stays one."""
    return _Scorer(completer) if isinstance(completer, ChoiceScorer) else _Completer(completer)


class _Completer:
    def __init__(self, inner: Completer) -> None:
        self._inner = inner
        self.name = inner.name
        self.at_once = getattr(inner, "at_once", 0)
        """Chunks that its engines take at once; 0 where it is no local model."""

    def continues_text(self) -> bool:
        """Return true if the completer continues plain text, the default of completers."""
        ask = getattr(self._inner, "continues_text", None)
        return True if ask is None else bool(ask())

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        completions = self._inner.complete(requests)
        usage = Usage(
            # A prompt shared by several completions is read once.
            prompt_tokens=sum(several[0].prompt_tokens for several in completions if several),
            tokens=sum(c.tokens for several in completions for c in several),
            calls=sum(len(several) for several in completions),
        )
        price = getattr(self._inner, "price", None)
        add(replace(usage, usd=price(usage)) if price else usage)
        return completions


class _Scorer(_Completer):
    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        assert isinstance(self._inner, ChoiceScorer)
        add(Usage(calls=len(requests)))
        return self._inner.choice_logprobs(requests, choices)
