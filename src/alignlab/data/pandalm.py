"""PandaLM's test set (arXiv 2306.05087): two models' answers, compared by three annotators.

Annotators' labels are 1 or 2 for the better response, 0 for a tie; `cmp_key` names the two models.
"""

from __future__ import annotations

from alignlab.data.build_records import UNKNOWN_WRITER, BuildResult, ResponseDraft, origin_of
from alignlab.data.conversations import instruction_of
from alignlab.data.formats import row_format
from alignlab.data.judged_pairs import (
    FIRST,
    SECOND,
    TIE,
    JudgedPair,
    judged_pair_group,
    text_or_truth,
)
from alignlab.data.options import Options
from alignlab.data.rows import Row

ANNOTATORS = ("annotator1", "annotator2", "annotator3")
_VOTES = (TIE, FIRST, SECOND)


@row_format("pandalm", columns=[("instruction", "response1", "response2", *ANNOTATORS)])
def pandalm(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of models' answers in the order of the annotators' majority, ties kept."""
    return judged_pair_group(pandalm_pair(row))


def pandalm_pair(row: Row) -> JudgedPair:
    """One row with its three votes."""
    models = (row.optional_text("cmp_key") or "").split("_")
    writers = models if len(models) == 2 else [UNKNOWN_WRITER] * 2
    (first, mended), (second, mended_too) = (
        text_or_truth(row, f"response{number}") for number in (1, 2)
    )
    return JudgedPair(
        prompt=instruction_of(row),
        first=ResponseDraft(first, model=writers[0]),
        second=ResponseDraft(second, model=writers[1]),
        votes=tuple(_VOTES[row.whole(name, range(3))] for name in ANNOTATORS),
        origin=origin_of(row, "pandalm"),
        changed=(*mended, *mended_too),
    )
