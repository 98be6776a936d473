"""Preferences: `{"prompt": ..., "chosen": ..., "rejected": ...}`, the prompt may be implicit.

Texts or turns, as TRL knows them. Without a prompt column, dialogues share their prompt as their
common turns, and texts as their common beginning, cut back to a whole word. `score_chosen` and
`score_rejected` are used where both are there.
"""

from __future__ import annotations

import re

from alignlab.data.build_records import (
    BuildResult,
    Dropped,
    Origin,
    ResponseDraft,
    origin_of,
    pair,
    user,
)
from alignlab.data.conversations import compared, is_turns, prompt_turns, turns
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.types import Message


@row_format("preference", columns=[("chosen", "rejected"), ("prompt", "chosen", "rejected")])
def preference(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of a chosen and a rejected answer."""
    return [preferred(row, origin_of(row, "preference"))]


def preferred(row: Row, origin: Origin) -> BuildResult:
    """The pair of one row, whichever of the forms it takes."""
    scores = (0.0, -1.0)
    if row.has("score_chosen") and row.has("score_rejected"):
        scores = (row.number("score_chosen"), row.number("score_rejected"))
    if is_turns(row, "chosen"):
        return _dialogues(row, origin, scores)
    chosen, rejected = row.text("chosen"), row.text("rejected")
    if row.has("prompt"):
        asked = prompt_turns(row, "prompt")
    else:
        shared = _common_words(chosen, rejected)
        asked = user(shared.rstrip())
        chosen, rejected = chosen[len(shared) :], rejected[len(shared) :]
    return pair(asked, ResponseDraft(chosen, scores[0]), ResponseDraft(rejected, scores[1]), origin)


def _dialogues(row: Row, origin: Origin, scores: tuple[float, float]) -> BuildResult:
    chosen, rejected = turns(row, "chosen"), turns(row, "rejected")
    if not row.has("prompt"):
        return compared(chosen, rejected, origin, scores)
    asked = prompt_turns(row, "prompt")
    if not _holds_prompt(chosen):
        return compared((*asked, *chosen), (*asked, *rejected), origin, scores)
    # Some sets give the prompt twice: in its column and at the head of both dialogues.
    if not all(message in chosen for message in asked):
        return Dropped("prompt differs from the dialogue's")
    return compared(chosen, rejected, origin, scores)


def _holds_prompt(dialogue: tuple[Message, ...]) -> bool:
    return any(message.role == "user" for message in dialogue)


def _common_words(one: str, other: str) -> str:
    """The longest common beginning that ends before white space in both texts."""
    length = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    common = one[: min(len(one), len(other)) if length is None else length]
    ends = [match.end() for match in re.finditer(r"\s+", common)]
    return common[: ends[-1]] if ends else ""
