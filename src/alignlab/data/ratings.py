"""Ratings: `{"instruction": ..., "generations": [...], "ratings": [...]}`."""

from __future__ import annotations

from dataclasses import replace

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    Kept,
    ResponseDraft,
    group,
    origin_of,
    user,
)
from alignlab.data.conversations import instruction_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.errors import bad_record

UNRATED = "unrated response left out"


@row_format("ratings", columns=[("instruction", "generations", "ratings")])
def ratings(row: Row, options: Options) -> list[BuildResult]:
    """Several generations for an instruction with a rating of each; null is not rated."""
    texts, given = row.texts("generations"), row.items("ratings")
    if len(texts) != len(given):
        raise bad_record(
            row.file, row.line, "ratings", f"{len(texts)} ratings, one per generation", len(given)
        )
    field = next((f for f in ("generation_models", "models") if row.has(f)), None)
    models = row.texts(field) if field else [UNKNOWN_WRITER] * len(texts)
    if field and len(models) != len(texts):
        raise bad_record(row.file, row.line, field, f"{len(texts)} names", len(models))
    numbered = Row(row.file, row.line, {f"ratings[{n}]": r for n, r in enumerate(given)})
    answers = [
        ResponseDraft(text, numbered.number(f"ratings[{n}]"), model)
        for n, (text, model) in enumerate(zip(texts, models, strict=True))
        if given[n] is not None
    ]
    made = group(user(instruction_of(row)), answers, origin_of(row, "ratings"))
    return [without_unrated(made, len(texts) - len(answers))]


def without_unrated(made: BuildResult, unrated: int) -> BuildResult:
    """Note in the account of a group the responses that had no rating."""
    if isinstance(made, Kept):
        return replace(made, changed=(*made.changed, *[UNRATED] * unrated))
    return made
