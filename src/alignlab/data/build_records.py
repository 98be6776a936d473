"""Build records from the parts of a row, or the reason to drop it.

Ids are hashes of the content: equal texts have equal ids in every file and on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from alignlab.data.rows import Row, is_text
from alignlab.text import is_failed_answer, trimmed
from alignlab.types import (
    CritiquedResponse,
    Demonstration,
    Finish,
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
FAILED = "response of a failed server ($ERROR$)"


@dataclass(frozen=True)
class Kept:
    """Usable record."""

    record: Record
    held_out: bool = False
    """True for a test record; no training record shares its prompt."""
    changed: tuple[str, ...] = ()
    """Repairs that made the record usable, for the counts."""


@dataclass(frozen=True)
class Dropped:
    """Reason to drop a well-formed record."""

    reason: str


BuildResult = Kept | Dropped


@dataclass(frozen=True)
class Origin:
    """Metadata of a record."""

    source: str
    """Data source, or the writer of the prompt."""
    reference: str | None = None
    query_type: QueryType | None = None
    ordered_by: str = ""
    """Source of the ranking; empty where it is `source`."""


@dataclass(frozen=True)
class ResponseDraft:
    """Response without an id."""

    text: str
    score: float = 0.0
    model: str = UNKNOWN_WRITER
    finish: Finish = "stop"


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
    """Hash texts to 16 hex digits (SHA-256)."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def prompt(messages: Sequence[Message], origin: Origin) -> Kept | Dropped:
    """Build a prompt from a conversation that must end in a user turn."""
    asked = _prompt(messages, origin)
    return asked if isinstance(asked, Dropped) else Kept(asked)


def demonstration(
    messages: Sequence[Message], answer: ResponseDraft, origin: Origin
) -> BuildResult:
    """Build a demonstration; an empty response is dropped."""
    answered = _answered(messages, answer, origin)
    return answered if isinstance(answered, Dropped) else Kept(Demonstration(*answered))


def labelled(
    messages: Sequence[Message], answer: ResponseDraft, desirable: bool, origin: Origin
) -> BuildResult:
    """Build a labelled response; an empty response is dropped."""
    answered = _answered(messages, answer, origin)
    if isinstance(answered, Dropped):
        return answered
    return Kept(UnpairedPreference(*answered, desirable))


def commented(
    messages: Sequence[Message], answer: ResponseDraft, comment: str, origin: Origin
) -> BuildResult:
    """Build a response with feedback in words; empty texts are dropped."""
    answered = _answered(messages, answer, origin)
    if isinstance(answered, Dropped):
        return answered
    if not trimmed(comment):
        return Dropped("empty feedback")
    return Kept(CritiquedResponse(*answered, comment))


def pair(
    messages: Sequence[Message], chosen: ResponseDraft, rejected: ResponseDraft, origin: Origin
) -> BuildResult:
    """Build a group of two; empty, failed, identical or contradicting responses are dropped."""
    if not trimmed(chosen.text):
        return Dropped("empty chosen response")
    if not trimmed(rejected.text):
        return Dropped("empty rejected response")
    if is_failed_answer(chosen.text) or is_failed_answer(rejected.text):
        return Dropped(FAILED)
    if trimmed(chosen.text) == trimmed(rejected.text):
        return Dropped("identical responses")
    if chosen.score == rejected.score:
        return Dropped("equal scores")
    if chosen.score < rejected.score:
        return Dropped("scores contradict the choice")
    return group(messages, [chosen, rejected], origin)


def with_probability(result: BuildResult, probability: float | None) -> BuildResult:
    """Give a pair the probability that its chosen response is the better one, in [0, 1].

    A pair whose probability is below one half is turned round.
    """
    if probability is None or not isinstance(result, Kept):
        return result
    pair = result.record
    assert isinstance(pair, PreferenceGroup)
    if probability >= 0.5:
        return replace(result, record=replace(pair, probability=probability))
    turned = replace(pair, responses=pair.responses[::-1], probability=1 - probability)
    return with_changes(replace(result, record=turned), "turned round by its probability")


def group(
    messages: Sequence[Message], answers: Sequence[ResponseDraft], origin: Origin
) -> BuildResult:
    """Build a preference group, best first, without empty and repeated responses."""
    asked = _prompt(messages, origin)
    if isinstance(asked, Dropped):
        return asked
    best_first: dict[str, ResponseDraft] = {}
    changed = []
    for answer in sorted(answers, key=lambda a: -a.score):
        if not trimmed(answer.text):
            changed.append("empty response left out")
        elif is_failed_answer(answer.text):
            changed.append(f"{FAILED} left out")
        elif trimmed(answer.text) in best_first:
            changed.append("repeated response left out")
        else:
            best_first[trimmed(answer.text)] = answer
    if len(best_first) < 2:
        return Dropped("fewer than two different responses")
    built = PreferenceGroup(
        prompt=asked,
        responses=tuple(_response(asked, answer) for answer in best_first.values()),
        scores=tuple(answer.score for answer in best_first.values()),
        source=origin.ordered_by or origin.source,
    )
    return Kept(built, changed=tuple(changed))


def held_out(result: BuildResult, is_test: bool) -> BuildResult:
    """Mark a record of the data's own test split as held out."""
    return replace(result, held_out=True) if is_test and isinstance(result, Kept) else result


def with_changes(result: BuildResult, *changes: str) -> BuildResult:
    """Add repairs to the counts of a usable record."""
    if changes and isinstance(result, Kept):
        return replace(result, changed=(*result.changed, *changes))
    return result


def user(text: str) -> tuple[Message, ...]:
    """Build a conversation of one user turn."""
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


def _answered(
    messages: Sequence[Message], answer: ResponseDraft, origin: Origin
) -> tuple[Prompt, Response] | Dropped:
    """Build a prompt and the response to it; an empty or failed response is dropped."""
    asked = _prompt(messages, origin)
    if isinstance(asked, Dropped):
        return asked
    if is_failed_answer(answer.text):
        return Dropped(FAILED)
    return (asked, _response(asked, answer)) if trimmed(answer.text) else Dropped("empty response")


def _response(asked: Prompt, answer: ResponseDraft) -> Response:
    identity = content_id(asked.id, answer.text)
    sampler = SampledBy(answer.model)
    return Response(identity, asked.id, answer.text, sampler, finish=answer.finish)
