"""From the parts of a row to a noun, or to the reason why it cannot be one.

Ids come from the content alone: the same text has the same id in every file and on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from alignlab.data.rows import Row, is_text
from alignlab.text import trimmed
from alignlab.types import (
    CritiquedResponse,
    Demonstration,
    Message,
    PreferenceGroup,
    Prompt,
    QueryType,
    Response,
    SampledBy,
    UnpairedPreference,
)

Record = Demonstration | PreferenceGroup | UnpairedPreference | CritiquedResponse | Prompt
UNKNOWN_WRITER = "unknown"


@dataclass(frozen=True)
class Kept:
    """A usable record."""

    record: Record
    held_out: bool = False
    """For testing: its prompt appears nowhere else."""
    changed: tuple[str, ...] = ()
    """What was mended to make it usable."""


@dataclass(frozen=True)
class Dropped:
    """A record that is well formed and still of no use, and why."""

    reason: str


BuildResult = Kept | Dropped


@dataclass(frozen=True)
class Origin:
    """What is known of a record beside its texts."""

    source: str
    """The data source, or who asked."""
    reference: str | None = None
    query_type: QueryType | None = None
    ordered_by: str = ""
    """Who ranked the responses, where that is not the source."""


@dataclass(frozen=True)
class ResponseDraft:
    """A response before it has an id."""

    text: str
    score: float = 0.0
    model: str = UNKNOWN_WRITER


def origin_of(row: Row, source: str) -> Origin:
    """Read the optional fields `source`, `reference` and `query_type` of a row."""
    named = row.get("source")
    query_type = row.optional_text("query_type")
    if query_type not in (None, "", "open", "closed"):
        raise row.bad("query_type", "open or closed")
    return Origin(
        source=str(named) if named and is_text(named) else source,
        reference=row.optional_text("reference") or None,
        query_type=query_type or None,  # type: ignore[arg-type]
    )


def content_id(*parts: str) -> str:
    """16 hex digits of the SHA-256 of some texts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def prompt(messages: Sequence[Message], origin: Origin) -> Kept | Dropped:
    """Make a prompt of a conversation that must end in a user's turn."""
    made = _prompt(messages, origin)
    return made if isinstance(made, Dropped) else Kept(made)


def demonstration(
    messages: Sequence[Message], answer: ResponseDraft, origin: Origin
) -> BuildResult:
    """Make a target to imitate."""
    asked = _prompt(messages, origin)
    if isinstance(asked, Dropped):
        return asked
    if not trimmed(answer.text):
        return Dropped("empty response")
    return Kept(Demonstration(asked, _response(asked, answer)))


def labelled(
    messages: Sequence[Message], answer: ResponseDraft, desirable: bool, origin: Origin
) -> BuildResult:
    """Make a response with a label."""
    asked = _prompt(messages, origin)
    if isinstance(asked, Dropped):
        return asked
    if not trimmed(answer.text):
        return Dropped("empty response")
    return Kept(UnpairedPreference(asked, _response(asked, answer), desirable))


def commented(
    messages: Sequence[Message], answer: ResponseDraft, comment: str, origin: Origin
) -> BuildResult:
    """Make a response with feedback in words."""
    asked = _prompt(messages, origin)
    if isinstance(asked, Dropped):
        return asked
    if not trimmed(answer.text):
        return Dropped("empty response")
    if not trimmed(comment):
        return Dropped("empty feedback")
    return Kept(CritiquedResponse(asked, _response(asked, answer), comment))


def pair(
    messages: Sequence[Message], chosen: ResponseDraft, rejected: ResponseDraft, origin: Origin
) -> BuildResult:
    """Make a group of two; scores that do not put the chosen one first are refused by reason."""
    if not trimmed(chosen.text):
        return Dropped("empty chosen response")
    if not trimmed(rejected.text):
        return Dropped("empty rejected response")
    if trimmed(chosen.text) == trimmed(rejected.text):
        return Dropped("identical responses")
    if chosen.score == rejected.score:
        return Dropped("equal scores")
    if chosen.score < rejected.score:
        return Dropped("scores contradict the choice")
    return group(messages, [chosen, rejected], origin)


def group(
    messages: Sequence[Message], answers: Sequence[ResponseDraft], origin: Origin
) -> BuildResult:
    """Make a preference group, best first; empty and repeated responses are left out of it."""
    asked = _prompt(messages, origin)
    if isinstance(asked, Dropped):
        return asked
    best_first: dict[str, ResponseDraft] = {}
    changed = []
    for answer in sorted(answers, key=lambda a: -a.score):
        if not trimmed(answer.text):
            changed.append("empty response left out")
        elif trimmed(answer.text) in best_first:
            changed.append("repeated response left out")
        else:
            best_first[trimmed(answer.text)] = answer
    if len(best_first) < 2:
        return Dropped("fewer than two different responses")
    kept = PreferenceGroup(
        prompt=asked,
        responses=tuple(_response(asked, answer) for answer in best_first.values()),
        scores=tuple(answer.score for answer in best_first.values()),
        source=origin.ordered_by or origin.source,
    )
    return Kept(kept, changed=tuple(changed))


def held_out(made: BuildResult, is_test: bool) -> BuildResult:
    """Mark a record that the data itself keeps for testing."""
    return replace(made, held_out=True) if is_test and isinstance(made, Kept) else made


def user(text: str) -> tuple[Message, ...]:
    """One user turn."""
    return (Message("user", text),)


def _prompt(messages: Sequence[Message], origin: Origin) -> Prompt | Dropped:
    if not messages or messages[-1].role != "user":
        return Dropped("prompt does not end in a user turn")
    if not trimmed(messages[-1].content):
        return Dropped("empty prompt")
    return Prompt(
        id=content_id(*(part for m in messages for part in (m.role, m.content))),
        messages=tuple(messages),
        source=origin.source,
        reference=origin.reference,
        query_type=origin.query_type,
    )


def _response(asked: Prompt, answer: ResponseDraft) -> Response:
    identity = content_id(asked.id, answer.text)
    return Response(identity, asked.id, answer.text, SampledBy(answer.model))
