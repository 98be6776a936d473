"""AlpacaEval's `annotations.json`: a model's output against the baseline's, judged from 1 to 2.

The preference is a probability where the judge's token log-probabilities were read: 1 means that
`output_1`, the baseline, wins, 2 that `output_2` does. The scores of a group are the two
probabilities of being the better one, which add up to 1.
"""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, Dropped, Origin, ResponseDraft, pair, user
from alignlab.data.conversations import instruction_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format(
    "alpacaeval",
    columns=[("instruction", "output_1", "output_2", "generator_1", "generator_2", "preference")],
)
def alpacaeval(row: Row, options: Options) -> list[BuildResult]:
    """Judged pairs of a model and the baseline."""
    texts = (row.text("output_1"), row.text("output_2"))
    models = (row.text("generator_1"), row.text("generator_2"))
    if not row.has("preference"):
        return [Dropped("no preference given")]
    second_wins = row.number("preference") - 1
    if not 0 <= second_wins <= 1:
        raise row.bad("preference", "a number from 1 to 2")
    if second_wins == 0.5:
        return [Dropped("tie")]
    answers = [
        ResponseDraft(text, score, model)
        for text, score, model in zip(texts, (1 - second_wins, second_wins), models, strict=True)
    ]
    better, worse = sorted(answers, key=lambda answer: -answer.score)
    origin = Origin(
        source=row.optional_text("dataset") or "alpacaeval",
        ordered_by=row.optional_text("annotator") or "",
    )
    return [pair(user(instruction_of(row)), better, worse, origin)]
