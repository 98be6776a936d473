"""Feedback in words: `{"prompt": ..., "completion": ..., "feedback": "..."}`."""

from __future__ import annotations

from alignlab.data.chat import NO_ANSWER
from alignlab.data.formats import row_format
from alignlab.data.made import Answer, Made, commented, origin_of
from alignlab.data.options import Options
from alignlab.data.prompt_completion import completed
from alignlab.data.rows import Row


@row_format("commented", columns=[("prompt", "completion", "feedback")])
def comments(row: Row, options: Options) -> list[Made]:
    """Completions with what was said of them."""
    exchange = completed(row)
    if exchange is None:
        return [NO_ANSWER]
    origin = origin_of(row, "commented")
    return [commented(exchange.context, Answer(exchange.answer), row.text("feedback"), origin)]
