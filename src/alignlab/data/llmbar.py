"""LLMBar (arXiv 2310.07641): an instruction, an answer that follows it and one that does not.

Also the human-labelled pairs of FairEval, LLMEval2 and MT-Bench as its authors processed them: all
have `input`, `output_1`, `output_2` and a label, 1 or 2, of the better output. There are no ties.
"""

from __future__ import annotations

from pathlib import Path

from alignlab.data.build_records import BuildResult, Origin, ResponseDraft
from alignlab.data.formats import row_format
from alignlab.data.judged_pairs import FIRST, SECOND, JudgedPair, judged_pair_group
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format("llmbar", columns=[("input", "output_1", "output_2", "label")])
def llmbar(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of answers of which one follows the instruction; the file's name is their family."""
    return judged_pair_group(llmbar_pair(row))


def llmbar_pair(row: Row) -> JudgedPair:
    """One row with its one vote."""
    return JudgedPair(
        prompt=row.text("input"),
        first=ResponseDraft(row.text("output_1")),
        second=ResponseDraft(row.text("output_2")),
        votes=((FIRST, SECOND)[row.whole("label", range(1, 3)) - 1],),
        origin=Origin(f"llmbar/{Path(row.file).name.split('.')[0]}"),
    )
