"""Prepend demonstrations to every conversation (few-shot prompting)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alignlab.at_once import at_once
from alignlab.protocols import Completer
from alignlab.types import Completion, CompletionRequest, Demonstration, Message


class FewShot:
    """Completer that prepends demonstrations to every conversation.

    A conversation's system turns stay first.
    """

    def __init__(
        self, completer: Completer, shown: Sequence[Demonstration], name: str | None = None
    ) -> None:
        self._completer, self.at_once = completer, at_once(completer)
        self._shown = tuple(
            turn
            for d in shown
            for turn in (*d.prompt.messages, Message("assistant", d.response.text))
            if turn.role != "system"
        )
        self.name = name or f"{completer.name}, {len(shown)}-shot"

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request after the demonstrations."""
        return self._completer.complete([self._after(r) for r in requests])

    def _after(self, request: CompletionRequest) -> CompletionRequest:
        first = [m for m in request.messages if m.role == "system"]
        rest = [m for m in request.messages if m.role != "system"]
        return replace(request, messages=(*first, *self._shown, *rest))
