"""FastChat's questions (MT-Bench, Vicuna-Bench): `{question_id, category, turns}`.

The first turn is the prompt, the others are its later turns. `reference`, a text or one per turn,
is the reference answer to the first.
"""

from __future__ import annotations

from dataclasses import replace

from alignlab.data.build_records import BuildResult, Kept, Origin, prompt, user
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.types import Prompt


@row_format("questions", columns=[("question_id", "turns")])
def questions(row: Row, options: Options) -> list[BuildResult]:
    """Questions of one or several user turns."""
    first, *later = row.texts("turns") or [""]
    several = isinstance(row.peek("reference"), list)
    references = row.texts("reference") if several else [row.optional_text("reference")]
    reference = next(iter(references), None) or None
    built = prompt(user(first), Origin("questions", reference))
    if isinstance(built, Kept) and isinstance(built.record, Prompt):
        return [replace(built, record=replace(built.record, later_turns=tuple(later)))]
    return [built]
