"""Layout of ratings: `{"instruction": ..., "generations": [...], "ratings": [...]}`."""

from __future__ import annotations

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    ResponseDraft,
    group,
    origin_of,
    user,
    with_changes,
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
    texts, rated = row.texts("generations"), row.items("ratings")
    if len(texts) != len(rated):
        raise bad_record(
            row.file, row.line, "ratings", f"{len(texts)} ratings, one per generation", len(rated)
        )
    field = next((f for f in ("generation_models", "models") if row.has(f)), None)
    models = row.texts(field) if field else [UNKNOWN_WRITER] * len(texts)
    if field and len(models) != len(texts):
        raise bad_record(row.file, row.line, field, f"{len(texts)} names", len(models))
    numbered = Row(row.file, row.line, {f"ratings[{n}]": r for n, r in enumerate(rated)})
    answers = [
        ResponseDraft(text, numbered.number(f"ratings[{n}]"), model)
        for n, (text, model) in enumerate(zip(texts, models, strict=True))
        if rated[n] is not None
    ]
    result = group(user(instruction_of(row)), answers, origin_of(row, "ratings"))
    return [with_changes(result, *[UNRATED] * (len(texts) - len(answers)))]
