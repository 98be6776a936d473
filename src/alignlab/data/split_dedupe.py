"""Split records into training and held-out ones without duplicates; kept + dropped = all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from alignlab.data.build_records import BuildResult, Dropped, Kept, Record, content_id
from alignlab.types import (
    Count,
    CritiquedResponse,
    Demonstration,
    PreferenceGroup,
    Prompt,
    UnpairedPreference,
)

R = TypeVar("R")
STAGE = "data"
HELD_OUT = "held out for testing"


@dataclass(frozen=True)
class SplitRecords:
    """Training and held-out records of a source, with counts."""

    train: tuple[Record, ...]
    test: tuple[Record, ...]
    count: Count


def prompt_of(record: Record) -> Prompt:
    """Return the prompt of any record."""
    return record if isinstance(record, Prompt) else record.prompt


def held_out_ids(results: Iterable[BuildResult]) -> frozenset[str]:
    """Collect the prompt ids of held-out records."""
    return frozenset(
        prompt_of(item.record).id for item in results if isinstance(item, Kept) and item.held_out
    )


def split_dedupe(
    what: str,
    results: Sequence[BuildResult],
    *,
    test_ids: Collection[str] | None = None,
    limit: int | None = None,
    bad: int = 0,
) -> SplitRecords:
    """Split records, drop duplicates and training records of held-out prompts, make ids unique.

    In the count, `kept` is the training side; held-out records are among the dropped.

    Args:
        what: kind of records, for the count.
        results: built or dropped records.
        test_ids: ids of held-out prompts; by default those of the held-out records in `results`.
        limit: maximum number of training records.
        bad: number of unreadable records, for the count.
    """
    test_ids = held_out_ids(results) if test_ids is None else test_ids
    dropped: Counter[str] = Counter({"bad record": bad} if bad else {})
    changed: Counter[str] = Counter()
    taken: set[str] = set()
    train: list[Record] = []
    test: list[Record] = []
    for item, key in _distinct(results, test_ids, dropped):
        is_test = prompt_of(item.record).id in test_ids
        if not is_test and limit is not None and len(train) >= limit:
            dropped["over the limit"] += 1
        else:
            (test if is_test else train).append(_unique(item.record, key, taken))
            dropped.update([HELD_OUT] if is_test else [])
            changed.update(item.changed)
    count = Count(STAGE, what, len(train), dict(dropped), dict(changed))
    return SplitRecords(tuple(train), tuple(test), count)


def _distinct(
    results: Iterable[BuildResult], test_ids: Collection[str], dropped: Counter[str]
) -> Iterator[tuple[Kept, str]]:
    """Yield the usable distinct records with their content hashes; count the dropped ones."""
    seen: set[str] = set()
    for item in results:
        if isinstance(item, Dropped):
            dropped[item.reason] += 1
            continue
        key = content_of(item.record)
        if prompt_of(item.record).id in test_ids and not item.held_out:
            dropped["prompt is held out"] += 1
        elif key in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(key)
            yield item, key


def distinct_prompts(records: Iterable[Record]) -> tuple[Prompt, ...]:
    """Collect the distinct prompts of records, in their order.

    The response of a demonstration becomes the reference of its prompt.
    """
    prompts: dict[str, Prompt] = {}
    for record in records:
        asked = prompt_of(record)
        if isinstance(record, Demonstration) and asked.reference is None:
            asked = replace(asked, reference=record.response.text)
        identity = content_id(*(part for m in asked.messages for part in (m.role, m.content)))
        prompts.setdefault(identity, replace(asked, id=identity))
    return tuple(prompts.values())


def content_of(record: Record) -> str:
    """Hash the content of a record; equal hashes mean duplicates."""
    kind = type(record).__name__
    if isinstance(record, PreferenceGroup):
        texts = [response.text for response in record.responses]
        return content_id(kind, record.prompt.id, *texts, *map(repr, record.scores))
    if isinstance(record, UnpairedPreference):
        return content_id(kind, record.response.id, str(record.desirable))
    if isinstance(record, CritiquedResponse):
        return content_id(kind, record.response.id, record.comment)
    return content_id(kind, record.id)


def _unique(record: Record, key: str, taken: set[str]) -> Record:
    """Give a record whose id is taken a new one, from its content."""
    kind = type(record).__name__
    identity = record.id
    if f"{kind} {identity}" in taken:
        identity = f"{identity}-{key}"
        record = _renamed(record, identity)
    taken.add(f"{kind} {identity}")
    return record


def _renamed(record: Record, identity: str) -> Record:
    if isinstance(record, PreferenceGroup):
        return replace(
            record,
            prompt=replace(record.prompt, id=identity),
            responses=tuple(
                replace(response, id=content_id(identity, response.text), prompt_id=identity)
                for response in record.responses
            ),
        )
    if isinstance(record, UnpairedPreference | CritiquedResponse):
        return replace(record, response=replace(record.response, id=identity))
    raise AssertionError("demonstrations and prompts of one id are equal")


def of_kind(records: Iterable[Record], kind: type[R]) -> tuple[R, ...]:
    """Select the records of one kind."""
    return tuple(record for record in records if isinstance(record, kind))
