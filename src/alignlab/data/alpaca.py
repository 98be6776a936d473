"""Layout of Alpaca: `{"instruction": ..., "input": ..., "output": ...}`.

Also forms of training frameworks: `history` (earlier questions and answers), `system`, `kto_tag`,
and an `output` that is a list of answers, best first.
"""

from __future__ import annotations

from alignlab.data.build_records import (
    BuildResult,
    ResponseDraft,
    demonstration,
    group,
    labelled,
    origin_of,
)
from alignlab.data.conversations import desirability, prompt_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format("alpaca", columns=[("instruction", "output"), ("instruction", "input", "output")])
def alpaca(row: Row, options: Options) -> list[BuildResult]:
    """Instructions with an optional input and the output to imitate."""
    origin = origin_of(row, "alpaca")
    row.text("instruction")
    asked = prompt_of(row)
    if isinstance(row.get("output"), list):
        answers = [
            ResponseDraft(text, score=-rank) for rank, text in enumerate(row.texts("output"))
        ]
        return [group(asked, answers, origin)]
    desirable = desirability(row)
    if desirable is not None:
        return [labelled(asked, ResponseDraft(row.text("output")), desirable, origin)]
    return [demonstration(asked, ResponseDraft(row.text("output")), origin)]
