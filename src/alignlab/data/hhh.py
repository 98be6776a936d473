"""HHH alignment (arXiv 2112.00861): pairs on helpfulness, honesty, harmlessness and more.

In the authors' form (`input` with `targets`: choices and their labels), or in Prometheus's form,
with each answer in a judge prompt.
"""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, Origin, ResponseDraft, pair, user
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.data.rubric_prompt import rubric_prompt


@row_format(
    "hhh",
    columns=[("source", "chosen_instruction", "rejected_instruction"), ("input", "targets")],
)
def hhh(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of answers of which one is more helpful, honest or harmless."""
    origin = Origin(f"hhh/{row.optional_text('source') or 'unknown'}")
    if row.has("targets"):
        return [_choices(row, origin)]
    chosen = rubric_prompt(row, "chosen_instruction")
    rejected = rubric_prompt(row, "rejected_instruction")
    if chosen.asked != rejected.asked:
        raise row.bad("rejected_instruction", "the same instruction to evaluate as in the chosen")
    answers = (ResponseDraft(chosen.answered, 1.0), ResponseDraft(rejected.answered, 0.0))
    return [pair(user(chosen.asked), *answers, origin)]


def _choices(row: Row, origin: Origin) -> BuildResult:
    targets = row.row("targets")
    texts, labels = targets.texts("choices"), targets.items("labels")
    if len(texts) != 2 or sorted(map(str, labels)) != ["0", "1"]:
        raise targets.bad("labels", "1 for one of two choices, 0 for the other")
    better = labels.index(1) if 1 in labels else labels.index("1")
    answers = (ResponseDraft(texts[better], 1.0), ResponseDraft(texts[1 - better], 0.0))
    return pair(user(row.text("input")), *answers, origin)
