"""Query a model and parse its replies, for model judges and teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from alignlab.protocols import Completer
from alignlab.types import Completion, CompletionRequest, Message, Sampling, Unscored

T = TypeVar("T")
Read = Callable[[str], T | None]
"""Parser of a reply; None for an unreadable reply."""


class Ask(NamedTuple):
    """One question to a model; its id enters the seed."""

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Reply(Generic[T]):
    """One reply with its parsed value."""

    value: T | Unscored
    completion: Completion

    @property
    def text(self) -> str:
        """Unparsed text of the reply; partial for a failed call."""
        return self.completion.text

    @property
    def read(self) -> T | None:
        """Parsed value; None if unscored."""
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
    """Ask every question `sampling.n` times and parse the replies.

    Args:
        completer: the model; not called for an empty list of questions.
        asks: the questions.
        read: parser of one reply; not applied to failed calls.
        sampling: sampling parameters.
        seed: seed of all draws.
        unread: reason of an unreadable reply.
        who: role of the model, named in the reason of a failed call.
    """
    requests = [CompletionRequest(ask.id, ask.messages, sampling, seed) for ask in asks]
    answers = completer.complete(requests) if requests else []
    parse = lru_cache(maxsize=256)(read)  # short replies, and stand-ins for them, are often equal
    return [tuple(_reply(one, parse, unread, who) for one in several) for several in answers]


def _reply(completion: Completion, read: Read[T], unread: str, who: str) -> Reply[T]:
    if completion.finish == "error":
        return Reply(Unscored(f"the {who}'s call failed: {completion.error}"), completion)
    text = completion.text
    value = read(text)
    cut_in_number = completion.finish == "length" and text[-1:].isdigit()
    if cut_in_number and read(text + "0") not in (None, value):
        value = None  # "Score: 1" that is cut off could have become 10.
    return Reply(Unscored(unread) if value is None else value, completion)
