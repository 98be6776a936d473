"""Feedback in words: `{"prompt": ..., "completion": ..., "feedback": "..."}`."""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, ResponseDraft, commented, origin_of
from alignlab.data.conversations import NO_ANSWER
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.prompt_completion import completed
from alignlab.data.rows import Row


@row_format("commented", columns=[("prompt", "completion", "feedback")])
def comments(row: Row, options: Options) -> list[BuildResult]:
    """Completions with what was said of them."""
    exchange = completed(row)
    if exchange is None:
        return [NO_ANSWER]
    origin = origin_of(row, "commented")
    return [
        commented(exchange.context, ResponseDraft(exchange.answer), row.text("feedback"), origin)
    ]
