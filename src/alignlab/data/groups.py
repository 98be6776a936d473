"""Layout of groups: `{"prompt": ..., "responses": [{"text": ..., "score": ..., ...}, ...]}`.

The only layout without loss for preference groups. Each response has a `score` (higher is better)
or a `rank` (0 is best), which must agree if both are present, and optionally its `model`. The row's
`ordered_by` names the source of the scores.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    Origin,
    ResponseDraft,
    group,
    origin_of,
)
from alignlab.data.conversations import prompt_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format("groups", columns=[("prompt", "responses")])
def groups(row: Row, options: Options) -> list[BuildResult]:
    """Any number of scored or ranked responses to a prompt."""
    return [ranked(row, origin_of(row, "groups"))]


def ranked(row: Row, origin: Origin) -> BuildResult:
    """Build the group of one row."""
    responses = row.rows("responses")
    scored = all(each.has("score") for each in responses)
    if not scored and any(each.has("score") for each in responses):
        missing = next(each for each in responses if not each.has("score"))
        raise missing.bad("score", "a score for every response of the group")
    field, sign = ("score", 1.0) if scored else ("rank", -1.0)
    answers = [
        ResponseDraft(
            each.text("text"),
            sign * each.number(field),
            each.optional_text("model") or UNKNOWN_WRITER,
        )
        for each in responses
    ]
    if scored and all(each.has("rank") for each in responses):
        _check_ranks(responses)
    origin = replace(origin, ordered_by=row.optional_text("ordered_by") or "")
    return group(prompt_of(row), answers, origin)


def _check_ranks(responses: list[Row]) -> None:
    """Check that ranks increase as scores decrease.

    Raises:
        BadInput: a rank contradicts its score.
    """
    by_score = sorted(responses, key=lambda each: -each.number("score"))
    for better, worse in pairwise(by_score):
        tied = better.number("score") == worse.number("score")
        if not tied and better.number("rank") >= worse.number("rank"):
            raise worse.bad("rank", f"a rank after {better.number('rank'):g}, as its score says")
