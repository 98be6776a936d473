"""Conversations as data sets write them: lists of turns under several role names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alignlab.data.build_records import BuildResult, Dropped, Origin, ResponseDraft, pair
from alignlab.data.rows import Row
from alignlab.types import Message, Role

OPENAI_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
SHAREGPT_ROLES: Mapping[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
}
NO_ANSWER = Dropped("does not end in an assistant turn")


@dataclass(frozen=True)
class Keys:
    """How a layout names a turn's speaker and text."""

    role: str = "role"
    content: str = "content"
    roles: Mapping[str, Role] | None = None


OPENAI = Keys(roles=OPENAI_ROLES)
SHAREGPT = Keys("from", "value", SHAREGPT_ROLES)


@dataclass(frozen=True)
class Exchange:
    """A conversation up to a user's turn, and the answer to it."""

    context: tuple[Message, ...]
    answer: str


def turns(row: Row, field: str, keys: Keys = OPENAI) -> tuple[Message, ...]:
    """Read a list of turns.

    Raises:
        BadInput: not a list of turns, or a role that no model is trained to have (a tool's, say).
    """
    found = row.rows(field)
    if not found:
        raise row.bad(field, "at least one turn")
    return tuple(turn(each, keys) for each in found)


def turn(row: Row, keys: Keys = OPENAI) -> Message:
    """Read one turn; a content in parts must be text parts, which are joined."""
    assert keys.roles is not None
    role = keys.roles.get(row.text(keys.role).lower())
    if role is None:
        raise row.bad(keys.role, "one of " + ", ".join(dict.fromkeys(keys.roles)))
    if isinstance(row.values.get(keys.content), list):
        return Message(role, "".join(part.text("text") for part in row.rows(keys.content)))
    return Message(role, row.text(keys.content))


def is_turns(row: Row, field: str) -> bool:
    """Say whether a field holds a list of turns rather than one text."""
    value = row.values.get(field)
    return isinstance(value, list) or (isinstance(value, str) and value.startswith('[{"'))


def prompt_turns(row: Row, field: str) -> tuple[Message, ...]:
    """Read a prompt: turns, or one text that is the user's."""
    if is_turns(row, field):
        return turns(row, field)
    return (Message("user", row.text(field)),)


def last_exchange(messages: tuple[Message, ...]) -> Exchange | None:
    """Split off the last answer; None when the last turn is not the assistant's."""
    if not messages or messages[-1].role != "assistant":
        return None
    return Exchange(messages[:-1], messages[-1].content)


def every_exchange(messages: tuple[Message, ...]) -> list[Exchange]:
    """One exchange for each assistant turn, with all that came before it."""
    return [
        Exchange(messages[:at], message.content)
        for at, message in enumerate(messages)
        if message.role == "assistant"
    ]


def compared(
    chosen: tuple[Message, ...],
    rejected: tuple[Message, ...],
    origin: Origin,
    scores: tuple[float, float] = (0.0, -1.0),
) -> BuildResult:
    """Make a pair of two whole dialogues, which may differ in their last answer alone."""
    better, worse = last_exchange(chosen), last_exchange(rejected)
    if better is None or worse is None:
        return NO_ANSWER
    if better.context != worse.context:
        return Dropped("contexts differ")
    return pair(
        better.context,
        ResponseDraft(better.answer, scores[0]),
        ResponseDraft(worse.answer, scores[1]),
        origin,
    )


def as_dicts(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Turns as they are written to a file."""
    return [{"role": m.role, "content": m.content} for m in messages]
