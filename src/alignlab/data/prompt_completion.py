"""Prompt and completion: `{"prompt": ..., "completion": ...}`, as texts or as turns."""

from __future__ import annotations

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    ResponseDraft,
    demonstration,
    origin_of,
)
from alignlab.data.conversations import (
    NO_ANSWER,
    Exchange,
    is_turns,
    last_exchange,
    prompt_turns,
    turns,
)
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format("prompt_completion", columns=[("prompt", "completion")])
def prompt_completion(row: Row, options: Options) -> list[BuildResult]:
    """Prompts with the completion to imitate."""
    exchange = completed(row)
    if exchange is None:
        return [NO_ANSWER]
    origin = origin_of(row, "prompt_completion")
    answer = ResponseDraft(exchange.answer, model=row.optional_text("model") or UNKNOWN_WRITER)
    return [demonstration(exchange.context, answer, origin)]


def completed(row: Row) -> Exchange | None:
    """The prompt and completion of a row; None when the completion's last turn is no answer."""
    asked = prompt_turns(row, "prompt")
    if is_turns(row, "completion"):
        return last_exchange((*asked, *turns(row, "completion")))
    return Exchange(asked, row.text("completion"))
