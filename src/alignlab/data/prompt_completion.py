"""Prompt and completion: `{"prompt": ..., "completion": ...}`, as texts or as turns.

Also `response` for the completion, and the columns of prompts that `chat.PROMPTS` names.
"""

from __future__ import annotations

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    ResponseDraft,
    demonstration,
    labelled,
    origin_of,
)
from alignlab.data.conversations import (
    NO_ANSWER,
    Exchange,
    answer_turns,
    desirability,
    last_exchange,
    prompt_of,
)
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row

ANSWERED = [
    ("prompt", "completion"),
    *((name, "response") for name in ("prompt", "instruction", "question", "query")),
]
"""Columns of a prompt and its answer."""


@row_format("prompt_completion", columns=ANSWERED)
def prompt_completion(row: Row, options: Options) -> list[BuildResult]:
    """Prompts with the completion to imitate."""
    exchange = completed(row)
    if exchange is None:
        return [NO_ANSWER]
    origin = origin_of(row, "prompt_completion")
    answer = ResponseDraft(exchange.answer, model=row.optional_text("model") or UNKNOWN_WRITER)
    desirable = desirability(row)
    if desirable is not None:
        return [labelled(exchange.context, answer, desirable, origin)]
    return [demonstration(exchange.context, answer, origin)]


def completed(row: Row) -> Exchange | None:
    """Read the prompt and completion of a row; None when the last turn is no answer."""
    other = row.peek("completion") is None and row.peek("response") is not None
    answer = answer_turns(row, "response" if other else "completion")
    asked = prompt_of(row, tuple(turn.content for turn in answer))
    return last_exchange((*asked, *answer))
