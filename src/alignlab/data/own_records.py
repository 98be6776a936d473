"""What alignlab itself writes in a run's stages: one noun per line, ids and all."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from alignlab.data.build_records import BuildResult, Kept, Record
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row, listed
from alignlab.errors import bad_record
from alignlab.records import from_dict
from alignlab.types import (
    CritiquedResponse,
    Demonstration,
    PreferenceGroup,
    Prompt,
    UnpairedPreference,
)

_KINDS: Mapping[frozenset[str], type[Record]] = {
    frozenset({"prompt", "responses", "scores", "source"}): PreferenceGroup,
    frozenset({"prompt", "response", "task"}): Demonstration,
    frozenset({"prompt", "response", "desirable"}): UnpairedPreference,
    frozenset({"prompt", "response", "comment"}): CritiquedResponse,
    frozenset({"id", "messages", "source", "reference", "query_type"}): Prompt,
}


@row_format("records", columns=_KINDS)
def own_records(row: Row, options: Options) -> list[BuildResult]:
    """Groups, demonstrations, labelled or commented responses, prompts, as a run wrote them."""
    kind = next((kind for keys, kind in _KINDS.items() if keys == set(row.values)), None)
    if kind is None:
        expected = (
            "the fields of a group, a demonstration, a labelled or commented response, a prompt"
        )
        raise bad_record(row.file, row.line, None, expected, listed(row.values))
    try:
        return [Kept(from_dict(kind, row.values))]
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        raise bad_record(
            row.file, row.line, field, first["msg"].lower(), repr(first["input"])
        ) from None
