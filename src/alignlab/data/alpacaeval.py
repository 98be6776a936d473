"""AlpacaEval's `annotations.json`: pairs of a model's and the baseline's output, judged 1 to 2.

A preference of 1 means that `output_1`, the baseline, wins, 2 that `output_2` does; values between
are probabilities from the judge's token log-probabilities. The scores of a group are the two
probabilities of being better, which sum to 1. `alpacaeval_listwise` holds the answers of many
models to an instruction with their scores, and a split.
"""

from __future__ import annotations

from alignlab.data.build_records import (
    BuildResult,
    Dropped,
    Origin,
    ResponseDraft,
    held_out,
    pair,
    user,
)
from alignlab.data.conversations import instruction_of
from alignlab.data.formats import row_format
from alignlab.data.groups import ranked
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format(
    "alpacaeval",
    columns=[("instruction", "output_1", "output_2", "generator_1", "generator_2", "preference")],
)
def alpacaeval(row: Row, options: Options) -> list[BuildResult]:
    """Judged pairs of a model and the baseline."""
    preference = row.get("preference")
    if preference is None or str(preference).strip().lower() in ("", "nan"):
        return [Dropped("no preference given")]
    if not row.has("output_1") or not row.has("output_2"):
        return [Dropped("null output")]
    texts = (row.text("output_1"), row.text("output_2"))
    models = (row.text("generator_1"), row.text("generator_2"))
    number = row.number("preference")
    if number in (0, 1.5):  # older annotators write a draw as 0
        return [Dropped("tie")]
    second_wins = number - 1
    if not 0 <= second_wins <= 1:
        raise row.bad("preference", "a number from 1 to 2")
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


@row_format("alpacaeval_listwise", columns=[("instruction_id", "split", "prompt", "responses")])
def alpacaeval_listwise(row: Row, options: Options) -> list[BuildResult]:
    """Groups of models' answers; rows whose split is `test` are held out."""
    split = row.text("split")
    if split not in ("train", "test"):
        raise row.bad("split", "train or test")
    origin = Origin(row.optional_text("dataset") or "alpacaeval", ordered_by="alpacaeval_listwise")
    return [held_out(ranked(row, origin), split == "test")]
