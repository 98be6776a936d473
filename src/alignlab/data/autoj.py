"""Auto-J's test of pairwise comparison (arXiv 2310.05470): two answers, 58 scenarios, human labels.

The label is 0 where the first response is better, 1 where the second is, 2 for a tie.
"""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, Origin, ResponseDraft
from alignlab.data.formats import row_format
from alignlab.data.judged_pairs import FIRST, SECOND, TIE, JudgedPair, judged_pair_group
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format("autoj", columns=[("prompt", "response 1", "response 2", "label")])
def autoj(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of answers by scenario, ties kept."""
    return judged_pair_group(autoj_pair(row))


def autoj_pair(row: Row) -> JudgedPair:
    """One row with its one vote."""
    return JudgedPair(
        prompt=row.text("prompt"),
        first=ResponseDraft(row.text("response 1")),
        second=ResponseDraft(row.text("response 2")),
        votes=((FIRST, SECOND, TIE)[row.whole("label", range(3))],),
        origin=Origin(f"autoj/{row.optional_text('scenario') or 'unknown'}"),
    )
