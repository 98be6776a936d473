"""What all judges made of a model share: one request per question, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alignlab.protocols import Completer
from alignlab.types import Completion, CompletionRequest, Prompt, Response, Usage

MakeCompleter = Callable[[str], Completer]
"""Makes an engine from its spec; feedback makes none itself."""


class Asked:
    """A completer with a running total of what it was asked."""

    def __init__(self, completer: Completer):
        self.completer = completer
        self.usage = Usage()

    def __call__(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete the requests and add up what they took."""
        answers = self.completer.complete(requests)
        self.usage += Usage(
            prompt_tokens=sum(several[0].prompt_tokens for several in answers if several),
            tokens=sum(c.tokens for several in answers for c in several),
            calls=sum(len(several) for several in answers),
        )
        return answers


def flatten(
    items: Sequence[tuple[Prompt, Sequence[Response]]],
) -> list[tuple[Prompt, Response]]:
    """Every response with its prompt: items in order, responses within an item."""
    return [(prompt, response) for prompt, responses in items for response in responses]
