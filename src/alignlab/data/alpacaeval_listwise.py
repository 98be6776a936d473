"""AlpacaEval as lists: many models' answers to an instruction with their scores, and a split."""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, Origin, held_out
from alignlab.data.formats import row_format
from alignlab.data.groups import ranked
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format("alpacaeval_listwise", columns=[("instruction_id", "split", "prompt", "responses")])
def alpacaeval_listwise(row: Row, options: Options) -> list[BuildResult]:
    """Groups of models' answers; rows whose split is `test` are held out."""
    split = row.text("split")
    if split not in ("train", "test"):
        raise row.bad("split", "train or test")
    origin = Origin(row.optional_text("dataset") or "alpacaeval", ordered_by="alpacaeval_listwise")
    return [held_out(ranked(row, origin), split == "test")]
