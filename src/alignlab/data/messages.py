"""Layout of conversations: `{"messages": [{"role": ..., "content": ...}, ...]}`.

The `weight` of a turn (`loss`, `train`, ...), 0 or 1, selects it for training. Also forms of
training frameworks: a `system` column, `kto_tag` or a `label` of true or false (unpaired
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
    check_prompt,
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
    """"last" trains on the last assistant turn; "all" on every assistant turn, a demonstration
    each. Weights of turns take precedence."""


@row_format("messages", columns=[("messages",)], options=ChatOptions)
def messages(row: Row, options: ChatOptions) -> list[BuildResult]:
    """Conversations in OpenAI's form; the assistant's turn is the target."""
    return chat_records(row, "messages", options, origin_of(row, "messages"))


def chat_records(row: Row, field: str, options: ChatOptions, origin: Origin) -> list[BuildResult]:
    """Build the demonstrations, the labelled answer or the pair of one conversation."""
    weighted = weighted_turns(row, field)
    dialogue = with_system(row, tuple(each.message for each in weighted))
    check_prompt(row, dialogue)
    last = last_exchange(dialogue)
    if last is None:
        return [NO_ANSWER]
    desirable = desirability(row)
    if desirable is not None:
        return [labelled(last.context, ResponseDraft(last.answer), desirable, origin)]
    if row.has("rejected_messages"):
        return [compared(dialogue, with_system(row, turns(row, "rejected_messages")), origin)]
    if row.has("rejected_response"):
        rejected = Message("assistant", row.text("rejected_response"))
        return [compared(dialogue, (*last.context, rejected), origin)]
    exchanges = _learnt(dialogue, weighted, options)
    return [
        demonstration(each.context, ResponseDraft(each.answer), origin) for each in exchanges
    ] or [NOTHING_LEARNT]


def _learnt(
    dialogue: tuple[Message, ...], weighted: tuple[Turn, ...], options: ChatOptions
) -> list[Exchange]:
    """Select the answers to train on, each with its preceding turns."""
    answers = [n for n, each in enumerate(weighted) if each.message.role == "assistant"]
    if any(weighted[n].learnt is not None for n in answers):
        answers = [n for n in answers if weighted[n].learnt is not False]
    elif options.turns == "last":
        answers = answers[-1:]
    before = len(dialogue) - len(weighted)  # a system turn from another column
    return [Exchange(dialogue[: n + before], dialogue[n + before].content) for n in answers]
