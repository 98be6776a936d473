"""Preferences: `{"prompt": ..., "chosen": ..., "rejected": ...}`, the prompt may be implicit.

Texts or turns, as TRL knows them. The prompt may stand in another column (`question`,
`instruction` with `input`, `query`, `messages`, `conversations`). Without any, dialogues share
their prompt as their common turns, and texts as their common beginning, cut back to a whole word.
`score_chosen` and `score_rejected` are used where both are there.
"""

from __future__ import annotations

import re
from dataclasses import replace

from alignlab.data.build_records import (
    BuildResult,
    Dropped,
    Kept,
    Origin,
    ResponseDraft,
    origin_of,
    pair,
    user,
)
from alignlab.data.conversations import (
    PROMPTS,
    answer_turns,
    compared,
    is_turns,
    prompt_of,
    turns,
    with_system,
)
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.errors import bad_record
from alignlab.types import Message

IMPLICIT = "prompt taken from the texts' common beginning"
_LABEL = re.compile(
    r"(.*[_ -])?(ids?|index|idx|uuid|hash|source|dataset|split|subset|category|categories|topic|"
    r"domain|tags?|type|lang(uage)?|locale|license|url|date|timestamp|models?|generator|annotators?|"
    r"scores?|ratings?|difficulty|rank|winner|reason|status)(_?\d+)?",
    re.IGNORECASE,
)
"""Names of columns that describe a record; their text is no prompt."""


@row_format(
    "preference",
    columns=[
        ("chosen", "rejected"),
        *((name, "chosen", "rejected") for name in PROMPTS if name != "conversations"),
        ("instruction", "input", "chosen", "rejected"),
    ],
)
def preference(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of a chosen and a rejected answer."""
    return [preferred(row, origin_of(row, "preference"))]


def preferred(row: Row, origin: Origin) -> BuildResult:
    """Make the pair of one row, whichever of the forms it takes."""
    scores = (0.0, -1.0)
    if row.has("score_chosen") and row.has("score_rejected"):
        scores = (row.number("score_chosen"), row.number("score_rejected"))
    if is_turns(row, "chosen"):
        return _dialogues(row, origin, scores)
    chosen, rejected = (answer_turns(row, side) for side in ("chosen", "rejected"))
    # Columns that every record leaves empty are no columns of prompts.
    if any(name in (row.reading.columns if row.reading else row.values) for name in PROMPTS):
        asked = prompt_of(row, tuple(turn.content for turn in (*chosen, *rejected)))
        return compared((*asked, *chosen), (*asked, *rejected), origin, scores)
    return _implicit(row, origin, scores)


def _dialogues(row: Row, origin: Origin, scores: tuple[float, float]) -> BuildResult:
    chosen, rejected = turns(row, "chosen"), answer_turns(row, "rejected")
    if not _holds_prompt(chosen):
        asked = prompt_of(row, tuple(turn.content for turn in (*chosen, *rejected)))
        return compared((*asked, *chosen), (*asked, *rejected), origin, scores)
    # Some sets give the prompt twice: in its column and at the head of both dialogues.
    if row.has("prompt"):
        asked = prompt_of(row)
        if not all(message in chosen for message in asked if message.role != "system"):
            return Dropped("prompt differs from the dialogue's")
    return compared(with_system(row, chosen), with_system(row, rejected), origin, scores)


def _holds_prompt(dialogue: tuple[Message, ...]) -> bool:
    return any(message.role == "user" for message in dialogue)


def _implicit(row: Row, origin: Origin, scores: tuple[float, float]) -> BuildResult:
    """Make the pair of two texts that open with what was asked.

    Raises:
        BadInput: a column of unknown meaning holds text, which may be the prompt.
    """
    assert row.reading is not None
    for unread in row.reading.unread():
        name = str(unread.name)
        known = _LABEL.fullmatch(name) or name in ("system", "system_prompt")
        if isinstance(unread.value, str) and not known and name not in row.reading.ignored:
            expected = (
                f"the prompt in a column named {', '.join(PROMPTS[:4])} (?ignore={name} if chosen "
                "and rejected open with the prompt)"
            )
            raise bad_record(row.file, row.line, name, expected, repr(unread.value))
    chosen, rejected = row.text("chosen"), row.text("rejected")
    shared = _common_words(chosen, rejected)
    asked = with_system(row, user(shared.rstrip()))
    made = pair(
        asked,
        ResponseDraft(chosen[len(shared) :], scores[0]),
        ResponseDraft(rejected[len(shared) :], scores[1]),
        origin,
    )
    return replace(made, changed=(*made.changed, IMPLICIT)) if isinstance(made, Kept) else made


def _common_words(one: str, other: str) -> str:
    """Find the longest common beginning that ends before white space in both texts."""
    length = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    common = one[: min(len(one), len(other)) if length is None else length]
    ends = [match.end() for match in re.finditer(r"\s+", common)]
    return common[: ends[-1]] if ends else ""
