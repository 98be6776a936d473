"""Unpaired preferences: `{"prompt": ..., "completion": ..., "label": true}`."""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, ResponseDraft, labelled, origin_of
from alignlab.data.conversations import NO_ANSWER
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.prompt_completion import ANSWERED, completed
from alignlab.data.rows import Row


@row_format("unpaired", columns=[(*names, "label") for names in ANSWERED])
def unpaired(row: Row, options: Options) -> list[BuildResult]:
    """Completions that are labelled desirable (true, 1) or not (false, 0)."""
    desirable = row.truth("label")
    exchange = completed(row)
    if exchange is None:
        return [NO_ANSWER]
    origin = origin_of(row, "unpaired")
    return [labelled(exchange.context, ResponseDraft(exchange.answer), desirable, origin)]
