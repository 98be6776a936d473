"""UltraFeedback (arXiv 2310.01377): four rated completions for an instruction.

Also binarized forms with `prompt`, `chosen` and `rejected`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    ResponseDraft,
    group,
    origin_of,
    user,
    with_changes,
)
from alignlab.data.conversations import instruction_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.preference import preferred
from alignlab.data.ratings import UNRATED
from alignlab.data.rows import Row
from alignlab.errors import BadInput

Aspect = Literal[
    "fine-grained", "overall", "helpfulness", "honesty", "instruction_following", "truthfulness"
]


@dataclass(frozen=True)
class UltraFeedbackOptions(Options):
    """Options of UltraFeedback."""

    score: Aspect | None = None
    """Score that orders the completions: the mean of the aspects ("fine-grained", the default),
    the critic's "overall" score (1-10), or one aspect (1-5); for the rated form only."""


@row_format("ultrafeedback", columns=[("instruction", "completions")], options=UltraFeedbackOptions)
def ultrafeedback(row: Row, options: UltraFeedbackOptions) -> list[BuildResult]:
    """Rated completions as openbmb/UltraFeedback has them, or a binarized form."""
    origin = origin_of(row, "ultrafeedback")
    if row.has("chosen"):
        if options.score is not None:
            raise BadInput(f"{row.file}: score has no effect on binarized UltraFeedback")
        return [preferred(row, origin)]
    completions = row.rows("completions")
    answers = [
        ResponseDraft(each.text("response"), score, each.optional_text("model") or UNKNOWN_WRITER)
        for each in completions
        if (score := _score(each, options.score or "fine-grained")) is not None
    ]
    result = group(user(instruction_of(row)), answers, origin)
    return [with_changes(result, *[UNRATED] * (len(completions) - len(answers)))]


def _score(completion: Row, by: Aspect) -> float | None:
    """Read the score of a completion; None where the critic gave none."""
    if by == "overall":
        return completion.number("overall_score") if completion.has("overall_score") else None
    if by == "fine-grained":
        if completion.has("fine-grained_score"):
            return completion.number("fine-grained_score")
        rated = [_rating(completion.row("annotations"), each) for each in _ASPECTS]
        known = [value for value in rated if value is not None]
        return sum(known) / len(known) if known else None
    return _rating(completion.row("annotations"), by)


_ASPECTS = ("helpfulness", "honesty", "instruction_following", "truthfulness")


def _rating(annotations: Row, aspect: str) -> float | None:
    """Read the rating of one aspect; None where missing ("N/A" in the data)."""
    if not annotations.has(aspect):
        return None
    rated = annotations.row(aspect)
    return None if rated.get("Rating") in (None, "N/A") else rated.number("Rating")
