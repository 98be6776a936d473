"""HH-RLHF (arXiv 2204.05862): `chosen` and `rejected` are dialogues of `\\n\\nHuman:` turns.

Dialogues that differ before the last answer are dropped. With a `prompt` column, `chosen` and
`rejected` are the last answers alone; `same_last_context` is false for dialogues that differ.
"""

from __future__ import annotations

import re

from alignlab.data.build_records import BuildResult, Dropped, origin_of, with_changes
from alignlab.data.conversations import compared
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.types import Message, Role

_MARK = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
JOINED = "consecutive turns of one speaker joined"


def _looks_like_hh(row: Row) -> bool:
    first = row.values.get("prompt") or row.values.get("chosen")
    return isinstance(first, str) and first.startswith("\n\nHuman:")


@row_format(
    "hh",
    columns=[("chosen", "rejected"), ("prompt", "chosen", "rejected")],
    looks=_looks_like_hh,
)
def hh(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of dialogues in Anthropic's HH-RLHF form."""
    if row.has("same_last_context") and not row.truth("same_last_context"):
        return [Dropped("contexts differ")]
    prompt = row.optional_text("prompt") or ""
    chosen, rejected = _dialogue(row, prompt, "chosen"), _dialogue(row, prompt, "rejected")
    if chosen[:-1] != rejected[:-1]:
        return [Dropped("contexts differ")]
    # Joined only now: text after an answer without a question between is no part of the answer.
    context = _joined(chosen[:-1])
    result = compared((*context, chosen[-1]), (*context, rejected[-1]), origin_of(row, "hh"))
    return [with_changes(result, JOINED) if len(context) < len(chosen) - 1 else result]


def _dialogue(row: Row, prompt: str, field: str) -> tuple[Message, ...]:
    parts = _MARK.split(prompt + row.text(field))
    if parts[0].strip() or len(parts) < 3:
        where = "prompt" if prompt else field
        raise row.bad(where, "a dialogue that starts with '\\n\\nHuman:'")
    return tuple(
        Message(_ROLES[name], text.strip())
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    )


def _joined(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Join consecutive turns of one speaker."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            content = f"{joined.pop().content}\n\n{message.content}".strip()
            message = Message(message.role, content)
        joined.append(message)
    return tuple(joined)
