"""Conversations: `{"messages": [{"role": ..., "content": ...}, ...]}`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alignlab.data.build_records import BuildResult, Origin, ResponseDraft, demonstration, origin_of
from alignlab.data.conversations import NO_ANSWER, every_exchange, last_exchange, turns
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.types import Message


@dataclass(frozen=True)
class ChatOptions(Options):
    """Options of conversations."""

    turns: Literal["last", "all"] = "last"
    """"last" learns the last assistant turn; "all" makes one target of every assistant turn."""


@row_format("messages", columns=[("messages",)], options=ChatOptions)
def messages(row: Row, options: ChatOptions) -> list[BuildResult]:
    """Conversations in OpenAI's form; the assistant's turn is the target."""
    return chat_targets(turns(row, "messages"), options, origin_of(row, "messages"))


def chat_targets(
    said: tuple[Message, ...], options: ChatOptions, origin: Origin
) -> list[BuildResult]:
    """The target or targets of one conversation."""
    last = last_exchange(said)
    if last is None:
        return [NO_ANSWER]
    exchanges = [last] if options.turns == "last" else every_exchange(said)
    return [demonstration(each.context, ResponseDraft(each.answer), origin) for each in exchanges]
