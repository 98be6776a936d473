"""Layouts of a prompt with a completion, a label or feedback in words, and of prompts alone.

`{"prompt": ..., "completion": ...}`, as texts or as turns, with `"label": true` for unpaired
preferences, or `"feedback": "..."` for critiques; `{"prompt": ...}` alone for sampling. Also
`response` for the completion, and the prompt columns of `conversations.PROMPTS`.
"""

from __future__ import annotations

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    ResponseDraft,
    commented,
    demonstration,
    labelled,
    origin_of,
    prompt,
)
from alignlab.data.conversations import (
    NO_ANSWER,
    Exchange,
    answer_turns,
    desirability,
    is_answered,
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
    answer = ResponseDraft(
        exchange.answer,
        model=row.optional_text("model") or UNKNOWN_WRITER,
        # `alignlab generate` marks the responses that it had to cut off.
        finish="length" if row.peek("finish") == "length" and row.has("finish") else "stop",
    )
    desirable = desirability(row)
    if desirable is not None:
        return [labelled(exchange.context, answer, desirable, origin)]
    return [demonstration(exchange.context, answer, origin)]


def completed(row: Row) -> Exchange | None:
    """Read the prompt and completion of a row; None if the last turn is not the assistant's."""
    other = row.peek("completion") is None and "response" in row.values
    answer = answer_turns(row, "response" if other else "completion")
    asked = prompt_of(row, tuple(turn.content for turn in answer))
    return last_exchange((*asked, *answer))


@row_format("unpaired", columns=[(*names, "label") for names in ANSWERED])
def unpaired(row: Row, options: Options) -> list[BuildResult]:
    """Completions that are labelled desirable (true, 1) or not (false, 0)."""
    desirable = row.truth("label")
    exchange = completed(row)
    if exchange is None:
        return [NO_ANSWER]
    origin = origin_of(row, "unpaired")
    return [labelled(exchange.context, ResponseDraft(exchange.answer), desirable, origin)]


@row_format("commented", columns=[("prompt", "completion", "feedback")])
def comments(row: Row, options: Options) -> list[BuildResult]:
    """Completions with feedback in words."""
    exchange = completed(row)
    if exchange is None:
        return [NO_ANSWER]
    origin, feedback = origin_of(row, "commented"), row.text("feedback")
    return [commented(exchange.context, ResponseDraft(exchange.answer), feedback, origin)]


@row_format("prompts", columns=[("prompt",)], looks=lambda row: not is_answered(row))
def prompts(row: Row, options: Options) -> list[BuildResult]:
    """Prompts without answers, as text or as turns."""
    return [prompt(prompt_of(row), origin_of(row, "prompts"))]
