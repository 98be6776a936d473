"""Conversations: `{"messages": [{"role": ..., "content": ...}, ...]}`.

A turn's `weight` (`loss`, `train`, ...) of 0 or 1 says whether it is learnt. Also the forms that
tuning programs add: a `system` column, `kto_tag` or a `label` of true or false (unpaired
preferences), `rejected_response` or `rejected_messages` (pairs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alignlab.data.build_records import (
    BuildResult,
    Dropped,
    Origin,
    ResponseDraft,
    demonstration,
    labelled,
    origin_of,
)
from alignlab.data.conversations import (
    NO_ANSWER,
    Exchange,
    Turn,
    compared,
    desirability,
    last_exchange,
    turns,
    weighted_turns,
    with_system,
)
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.types import Message

NOTHING_LEARNT = Dropped("no turn to learn (weight 0)")


@dataclass(frozen=True)
class ChatOptions(Options):
    """Options of conversations."""

    turns: Literal["last", "all"] = "last"
    """"last" learns the last assistant turn; "all" makes one target of every assistant turn. Where
    turns carry a weight, the weights decide instead."""


@row_format("messages", columns=[("messages",)], options=ChatOptions)
def messages(row: Row, options: ChatOptions) -> list[BuildResult]:
    """Conversations in OpenAI's form; the assistant's turn is the target."""
    return chat_records(row, "messages", options, origin_of(row, "messages"))


def chat_records(row: Row, field: str, options: ChatOptions, origin: Origin) -> list[BuildResult]:
    """Make the targets, the labelled answer or the pair of one conversation."""
    found = weighted_turns(row, field)
    said = with_system(row, tuple(each.message for each in found))
    last = last_exchange(said)
    if last is None:
        return [NO_ANSWER]
    desirable = desirability(row)
    if desirable is not None:
        return [labelled(last.context, ResponseDraft(last.answer), desirable, origin)]
    if row.has("rejected_messages"):
        return [compared(said, with_system(row, turns(row, "rejected_messages")), origin)]
    if row.has("rejected_response"):
        rejected = Message("assistant", row.text("rejected_response"))
        return [compared(said, (*last.context, rejected), origin)]
    exchanges = _learnt(said, found, options)
    return [
        demonstration(each.context, ResponseDraft(each.answer), origin) for each in exchanges
    ] or [NOTHING_LEARNT]


def _learnt(
    said: tuple[Message, ...], found: tuple[Turn, ...], options: ChatOptions
) -> list[Exchange]:
    """Choose the answers to learn, each with all that came before it."""
    answers = [n for n, each in enumerate(found) if each.message.role == "assistant"]
    if any(found[n].learnt is not None for n in answers):
        answers = [n for n in answers if found[n].learnt is not False]
    elif options.turns == "last":
        answers = answers[-1:]
    before = len(said) - len(found)  # the system turn of a column of its own
    return [Exchange(said[: n + before], said[n + before].content) for n in answers]
