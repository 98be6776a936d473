"""ShareGPT: `{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}]}`."""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, origin_of
from alignlab.data.conversations import SHAREGPT, compared, turn, turns
from alignlab.data.formats import row_format
from alignlab.data.messages import ChatOptions, chat_targets
from alignlab.data.rows import Row
from alignlab.types import Message


@row_format(
    "sharegpt",
    columns=[("conversations",), ("conversations", "chosen", "rejected")],
    options=ChatOptions,
)
def sharegpt(row: Row, options: ChatOptions) -> list[BuildResult]:
    """Conversations in ShareGPT's form, or with a chosen and a rejected last turn."""
    origin = origin_of(row, "sharegpt")
    system = row.optional_text("system")
    said = (
        *((Message("system", system),) if system else ()),
        *turns(row, "conversations", SHAREGPT),
    )
    if not row.has("chosen"):
        return chat_targets(said, options, origin)
    chosen, rejected = (turn(row.row(side), SHAREGPT) for side in ("chosen", "rejected"))
    return [compared((*said, chosen), (*said, rejected), origin)]
