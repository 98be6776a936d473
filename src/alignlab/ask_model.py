"""Ask a model and read its replies: the one loop behind every judge and teacher made of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from alignlab.protocols import Completer
from alignlab.types import Completion, CompletionRequest, Message, Sampling, Unscored

T = TypeVar("T")
Read = Callable[[str], T | None]
"""Reads what a reply says; None where it cannot be read."""


class Ask(NamedTuple):
    """One question to a model; its id decides the random draws."""

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Reply(Generic[T]):
    """One reply with what it says."""

    value: T | Unscored
    completion: Completion

    @property
    def text(self) -> str:
        """The reply as it came; what little arrived of a failed call."""
        return self.completion.text

    @property
    def read(self) -> T | None:
        """The value, None where nothing could be read."""
        return None if isinstance(self.value, Unscored) else self.value


def ask_model(
    completer: Completer,
    asks: Sequence[Ask],
    read: Read[T],
    *,
    sampling: Sampling,
    seed: int,
    unread: str = "no readable verdict",
    who: str = "judge",
) -> list[tuple[Reply[T], ...]]:
    """Ask every question `sampling.n` times and read the replies; no question is no call.

    Args:
        read: reads one reply. The text of a failed call is never read.
        unread: reason of a reply that cannot be read.
        who: names the model in the reason of a failed call.
    """
    requests = [CompletionRequest(ask.id, ask.messages, sampling, seed) for ask in asks]
    answers = completer.complete(requests) if requests else []
    return [tuple(_reply(one, read, unread, who) for one in several) for several in answers]


def _reply(completion: Completion, read: Read[T], unread: str, who: str) -> Reply[T]:
    if completion.finish == "error":
        return Reply(Unscored(f"the {who}'s call failed: {completion.error}"), completion)
    text = completion.text
    value = read(text)
    if (
        completion.finish == "length"
        and text[-1:].isdigit()
        and read(text + "0")
        not in (
            None,
            value,
        )
    ):
        value = None  # "Score: 1" that is cut off could have become 10.
    return Reply(Unscored(unread) if value is None else value, completion)
