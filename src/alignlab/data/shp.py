"""Stanford Human Preferences: two Reddit comments on a post, ordered by their votes."""

from __future__ import annotations

from dataclasses import dataclass

from alignlab.data.build_records import BuildResult, Dropped, ResponseDraft, origin_of, pair, user
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row


@dataclass(frozen=True)
class ShpOptions(Options):
    """Options of SHP."""

    min_ratio: float = 1.0
    """Minimum ratio of the better comment's votes to the other's; the authors advise 2."""


@row_format(
    "shp", columns=[("history", "human_ref_A", "human_ref_B", "labels")], options=ShpOptions
)
def shp(row: Row, options: ShpOptions) -> list[BuildResult]:
    """Pairs of comments; `labels` is 1 when comment A has more votes."""
    a_is_better = row.whole("labels", range(2)) == 1
    if row.has("score_ratio") and row.number("score_ratio") < options.min_ratio:
        return [Dropped("vote ratio below min_ratio")]
    answers = [ResponseDraft(row.text(f"human_ref_{side}"), model="human") for side in "AB"]
    chosen, rejected = answers if a_is_better else answers[::-1]
    # Votes of a post's pairs were counted at different times and do not compare across pairs, so
    # ranks serve as scores.
    ranked = ResponseDraft(rejected.text, -1.0, rejected.model)
    return [pair(user(row.text("history")), chosen, ranked, origin_of(row, "shp"))]
