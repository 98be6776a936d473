"""Count calls, tokens and dollars of all completers in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alignlab.protocols import ChoiceScorer, Completer
from alignlab.types import Completion, CompletionRequest, Usage

_total = Usage()


def mark() -> Usage:
    """Return the usage of this process so far."""
    return _total


def since(before: Usage) -> Usage:
    """Return the usage of this process since a mark."""
    return Usage(
        _total.prompt_tokens - before.prompt_tokens,
        _total.tokens - before.tokens,
        _total.calls - before.calls,
        _total.usd - before.usd,
    )


def metered(completer: Completer) -> Completer:
    """Wrap a completer to count its calls; a `ChoiceScorer` stays one."""
    return _Scorer(completer) if isinstance(completer, ChoiceScorer) else _Completer(completer)


class _Completer:
    def __init__(self, inner: Completer) -> None:
        self._inner = inner
        self.name = inner.name
        self.begin = getattr(inner, "begin", None)
        """Starts on requests that follow (see `EnginePool`); None where nothing works ahead."""

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
        _spend(replace(usage, usd=price(usage)) if price else usage)
        return completions


class _Scorer(_Completer):
    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        assert isinstance(self._inner, ChoiceScorer)
        _spend(Usage(calls=len(requests)))
        return self._inner.choice_logprobs(requests, choices)


def _spend(usage: Usage) -> None:
    global _total
    _total += usage
