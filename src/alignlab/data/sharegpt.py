"""Layout of ShareGPT: `{"conversations": [{"from": "human", "value": ...}, ...]}`."""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, origin_of
from alignlab.data.formats import row_format
from alignlab.data.messages import ChatOptions, chat_records
from alignlab.data.preference import preferred
from alignlab.data.rows import Row


@row_format(
    "sharegpt",
    columns=[("conversations",), ("conversations", "chosen", "rejected")],
    options=ChatOptions,
)
def sharegpt(row: Row, options: ChatOptions) -> list[BuildResult]:
    """Conversations in ShareGPT's form, or with a chosen and a rejected last turn."""
    origin = origin_of(row, "sharegpt")
    if row.has("chosen"):
        return [preferred(row, origin)]
    return chat_records(row, "conversations", options, origin)
