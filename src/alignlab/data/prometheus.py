"""Prometheus's absolute gradings (arXiv 2310.08491): several models' answers, scored by a rubric.

The instruction is a judge prompt; each answer has the judge's sampled scores (`gpt4_score`, 1 to
5), whose mean orders the answers to an instruction.
"""

from __future__ import annotations

from math import fsum

from alignlab.data.build_records import Origin, ResponseDraft, user
from alignlab.data.group_rows import Rated, grouped_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.data.rubric_prompt import rubric_prompt


@grouped_format("prometheus", columns=[("instruction", "response_source", "gpt4_score")])
def prometheus(row: Row, options: Options) -> Rated:
    """Several models' answers to a question with a judge's sampled scores of each."""
    shown = rubric_prompt(row, "instruction")
    samples = row.items("gpt4_score")
    if not samples:
        raise row.bad("gpt4_score", "at least one score")
    numbered = Row(row.file, row.line, {f"gpt4_score[{n}]": s for n, s in enumerate(samples)})
    scores = [numbered.number(field) for field in numbered.values]
    category = row.optional_text("category") or "unknown"
    return Rated(
        user(shown.asked),
        ResponseDraft(shown.answered, fsum(scores) / len(scores), row.text("response_source")),
        Origin(f"prometheus/{category}", reference=shown.reference, ordered_by="gpt4_score"),
        f"{row.file}:{row.line}",  # a repeated answer was graded anew
    )
