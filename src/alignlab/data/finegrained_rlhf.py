"""Fine-grained RLHF's QA feedback (arXiv 2306.01693): preferences, errors and corrections.

Four sampled answers to a question, compared by people in all six pairs (1-2, 1-3, 1-4, 2-3, 2-4,
3-4): 1 or 2 for the better one, 0 for a tie. The first answer also has marked errors, missing
information and a corrected version.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Literal

from alignlab.data.build_records import (
    BuildResult,
    Origin,
    ResponseDraft,
    commented,
    demonstration,
    group,
    user,
    with_changes,
)
from alignlab.data.formats import row_format
from alignlab.data.judged_pairs import FIRST, SECOND, TIE
from alignlab.data.options import Options
from alignlab.data.rows import Row, is_text
from alignlab.errors import bad_record
from alignlab.types import Message

ANSWERS = tuple(f"prediction {number}" for number in range(1, 5))
PAIRS = tuple(combinations(range(4), 2))
IN_A_CIRCLE = "preferences that no order has"
_VOTES = (TIE, FIRST, SECOND)
_ORIGIN = Origin("finegrained_rlhf")


@dataclass(frozen=True)
class FineGrainedOptions(Options):
    """Options of fine-grained RLHF."""

    use: Literal["preferences", "errors", "corrections"] = "preferences"
    """"preferences" gives a group of four scored by the share of comparisons won, a tie counting
    half; "errors" the first answer with its errors in words; "corrections" the corrected answer as
    a demonstration."""
    passages: bool = False
    """Append the source passages of the answers to the question."""


@row_format(
    "finegrained_rlhf",
    columns=[
        ("question", *ANSWERS, "preference"),
        ("question", *ANSWERS, "preference", "feedback"),
    ],
    options=FineGrainedOptions,
)
def finegrained_rlhf(row: Row, options: FineGrainedOptions) -> list[BuildResult]:
    """Four answers to a question with six preferences, marked errors and a correction."""
    asked = _asked(row, options.passages)
    if options.use == "preferences":
        return [_ordered(row, asked)]
    origin = replace(_ORIGIN, reference=row.optional_text("gold"))
    feedback = row.row("feedback")
    if options.use == "corrections":
        return [demonstration(asked, ResponseDraft(feedback.text("corrected-prediction")), origin)]
    return [commented(asked, ResponseDraft(row.text(ANSWERS[0])), _in_words(row, feedback), origin)]


def votes_of(row: Row) -> list[float]:
    """Read the votes on the six pairs of a row, in the order of `PAIRS`."""
    preferences = row.items("preference")
    if len(preferences) != len(PAIRS):
        found = f"{len(preferences)} preferences"
        raise bad_record(row.file, row.line, "preference", f"{len(PAIRS)}, one per pair", found)
    numbered = Row(row.file, row.line, {f"preference[{n}]": p for n, p in enumerate(preferences)})
    return [_VOTES[numbered.whole(field, range(3))] for field in numbered.values]


def _ordered(row: Row, asked: tuple[Message, ...]) -> BuildResult:
    """Build the group of four; intransitive preferences (a > b > c > a) are counted."""
    votes = votes_of(row)
    scores = [0.0] * 4
    for (a, b), vote in zip(PAIRS, votes, strict=True):
        scores[a] += vote / 3
        scores[b] += (1 - vote) / 3
    answers = [
        ResponseDraft(row.text(name), score) for name, score in zip(ANSWERS, scores, strict=True)
    ]
    result = group(asked, answers, replace(_ORIGIN, reference=row.optional_text("gold")))
    return result if _is_order(votes) else with_changes(result, IN_A_CIRCLE)


def _is_order(votes: list[float]) -> bool:
    """Return true if some ranking of the four answers, ties allowed, explains all six votes."""
    return any(
        all(
            vote == (TIE if ranks[a] == ranks[b] else FIRST if ranks[a] < ranks[b] else SECOND)
            for (a, b), vote in zip(PAIRS, votes, strict=True)
        )
        for ranks in product(range(4), repeat=4)
    )


def _asked(row: Row, passages: bool) -> tuple[Message, ...]:
    question = row.text("question")
    if not passages:
        return user(question)
    lists = row.items("passages")
    if not all(isinstance(each, list) and each and all(map(is_text, each)) for each in lists):
        raise row.bad("passages", "lists of texts, each a title and its sentences")
    return user("\n\n".join([question, *(" ".join(each[1:]) for each in lists)]))


def _in_words(row: Row, feedback: Row) -> str:
    """Format marked errors with the marked words, then missing information, one per line."""
    text = row.text(ANSWERS[0])
    lines = []
    for error in sorted(feedback.rows("errors"), key=lambda each: each.number("start")):
        start, end = (error.whole(side, range(len(text) + 1)) for side in ("start", "end"))
        lines.append(f'{error.text("error type")}: "{text[start:end].strip()}"')
    missing = feedback.rows("missing-info")
    lines += [each.text("error type").replace("-", ": ", 1) for each in missing]
    return "\n".join(lines) if lines else "No errors."
