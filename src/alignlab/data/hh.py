"""HH-RLHF (arXiv 2204.05862): `chosen` and `rejected` are dialogues of `\\n\\nHuman:` turns.

The dialogues share all turns but the last answer; where they do not, the pair compares more than
one answer and is dropped. With a `prompt` column, `chosen` and `rejected` are the last answers
alone, and `same_last_context` (where given) says whether the dialogues agreed.
"""

from __future__ import annotations

import re
from dataclasses import replace

from alignlab.data.build_records import BuildResult, Dropped, Kept, origin_of
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
    # Joined only now: what follows an answer without a question between is no part of it.
    context = _joined(chosen[:-1])
    made = compared((*context, chosen[-1]), (*context, rejected[-1]), origin_of(row, "hh"))
    if len(context) < len(chosen) - 1 and isinstance(made, Kept):
        return [replace(made, changed=(*made.changed, JOINED))]
    return [made]


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
    """The same dialogue with alternating speakers."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            content = f"{joined.pop().content}\n\n{message.content}".strip()
            message = Message(message.role, content)
        joined.append(message)
    return tuple(joined)
