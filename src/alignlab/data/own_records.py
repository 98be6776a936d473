"""Layout of alignlab's own records, as the stages of a run write them: one per line, with ids."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from alignlab.data.build_records import BuildResult, Kept, Record
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row, listed
from alignlab.errors import bad_record
from alignlab.records import to_dict
from alignlab.text import trimmed
from alignlab.types import (
    CritiquedResponse,
    Demonstration,
    PreferenceGroup,
    Prompt,
    Response,
    UnpairedPreference,
)

_KINDS: Mapping[frozenset[str], type[Record]] = {
    frozenset({"prompt", "responses", "scores", "source"}): PreferenceGroup,
    frozenset({"prompt", "response", "task"}): Demonstration,
    frozenset({"prompt", "response", "desirable"}): UnpairedPreference,
    frozenset({"prompt", "response", "comment"}): CritiquedResponse,
    frozenset({"id", "messages", "source", "reference", "query_type"}): Prompt,
}
_OPTIONAL = frozenset({"probability", "later_turns"})
"""Fields that later versions added; a record of another kind refuses them."""
_ADAPTERS: Mapping[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in _KINDS.values()}


@row_format("records", columns=_KINDS)
def own_records(row: Row, options: Options) -> list[BuildResult]:
    """Groups, demonstrations, labelled or commented responses and prompts of a run."""
    plain = {name: row.get(name) for name in row.values}
    found = frozenset(plain) - _OPTIONAL
    kind = next((kind for keys, kind in _KINDS.items() if keys == found), None)
    if kind is None:
        expected = (
            "the fields of a group, a demonstration, a labelled or commented response, a prompt"
        )
        raise bad_record(row.file, row.line, None, expected, listed(plain))
    record = _strictly(row, kind, plain)
    _check(row, record)
    return [Kept(record)]


def _strictly(row: Row, kind: type[Record], plain: Mapping[str, Any]) -> Record:
    """Parse a record strictly: exact types, no unknown fields.

    Raises:
        BadInput: a value has another type, or a field is unknown.
    """
    try:
        text = json.dumps(plain, allow_nan=False)
        record: Record = _ADAPTERS[kind].validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        found = repr(first["input"])
        raise bad_record(row.file, row.line, field, first["msg"].lower(), found) from None
    except (ValueError, TypeError) as error:  # NaN, infinity, a value that is not of JSON
        raise bad_record(row.file, row.line, None, "JSON values", str(error)) from None
    if unknown := next(_unknown(plain, to_dict(record)), None):
        expected = f"the fields of a {kind.__name__}"
        raise bad_record(row.file, row.line, unknown, expected, "an unknown field")
    return record


def _unknown(given: Any, known: Any, within: str = "") -> Any:
    """List the paths of given fields that the record lacks."""
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        for name, value in given.items():
            if name in known:
                yield from _unknown(value, known[name], f"{within}{name}.")
            else:
                yield f"{within}{name}"
    elif isinstance(given, list) and isinstance(known, list):
        for n, (value, read) in enumerate(zip(given, known, strict=True)):
            yield from _unknown(value, read, f"{within}{n}.")


def _check(row: Row, record: Record) -> None:
    """Check turns, texts, finite scores, ids and prompt ids of a record.

    Raises:
        BadInput: a check fails.
    """
    prompt = record if isinstance(record, Prompt) else record.prompt
    where = "" if isinstance(record, Prompt) else "prompt."

    def bad(field: str, expected: str, found: object) -> None:
        raise bad_record(row.file, row.line, field, expected, repr(found))

    if not trimmed(prompt.id):
        bad(f"{where}id", "an id", prompt.id)
    if not prompt.messages or prompt.messages[-1].role != "user":
        roles = [message.role for message in prompt.messages]
        bad(f"{where}messages", "a conversation that ends in a user's turn", roles)
    if not trimmed(prompt.text):
        bad(f"{where}messages.{len(prompt.messages) - 1}.content", "a text", prompt.text)
    if isinstance(record, PreferenceGroup) and not all(map(math.isfinite, record.scores)):
        bad("scores", "finite numbers", record.scores)  # an integer of 400 digits is read as one
    if isinstance(record, CritiquedResponse) and not trimmed(record.comment):
        bad("comment", "a text", record.comment)
    for field, values in _responses(record).items():
        for n, response in enumerate(values):
            place = f"{field}.{n}" if field == "responses" else field
            if not trimmed(response.id):
                bad(f"{place}.id", "an id", response.id)
            if response.prompt_id != prompt.id:
                bad(f"{place}.prompt_id", f"the prompt's id, {prompt.id!r}", response.prompt_id)
            if not trimmed(response.text):
                bad(f"{place}.text", "a text", response.text)
            for earlier in values[:n]:
                if trimmed(earlier.text) == trimmed(response.text):
                    bad(f"{place}.text", "another text than the other responses'", response.text)
                if earlier.id == response.id:
                    bad(f"{place}.id", "an id of its own", response.id)
            if _another(row, "response", response.id, (response.prompt_id, response.text)):
                bad(f"{place}.id", "an id that no other response has", response.id)
    if _another(row, "prompt", prompt.id, prompt.messages):
        bad(f"{where}id", "an id that no other prompt has", prompt.id)


def _another(row: Row, kind: str, identity: str, content: object) -> bool:
    """Return true if an earlier record of the table has this id with other content."""
    assert row.reading is not None
    known: dict[Any, Any] = row.reading.memory
    return bool(known.setdefault((kind, identity), content) != content)


def _responses(record: Record) -> Mapping[str, tuple[Response, ...]]:
    if isinstance(record, PreferenceGroup):
        return {"responses": record.responses}
    return {} if isinstance(record, Prompt) else {"response": (record.response,)}
