"""Fine-grained RLHF's answers to questions (arXiv 2306.01693): preferences, errors, corrections.

Four sampled answers to a question, compared by people in all six pairs (1 and 2, 1 and 3, 1 and 4,
2 and 3, 2 and 4, 3 and 4): 1 or 2 for the better one, 0 for none. The first answer also has the
errors that were marked in it, what it misses, and a corrected version.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Literal

from alignlab.data.build_records import (
    BuildResult,
    Kept,
    Origin,
    ResponseDraft,
    commented,
    demonstration,
    group,
    user,
)
from alignlab.data.formats import row_format
from alignlab.data.judged_pairs import FIRST, SECOND, TIE, JudgedPair
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
    """"preferences" gives a group of four by the share of comparisons won, a tie half; "errors" the
    first answer with what is wrong with it, in words; "corrections" the corrected answer, to
    imitate."""
    passages: bool = False
    """Put the passages that the answers rest on under the question."""


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
    said = row.row("feedback")
    if options.use == "corrections":
        return [demonstration(asked, ResponseDraft(said.text("corrected-prediction")), origin)]
    return [commented(asked, ResponseDraft(row.text(ANSWERS[0])), _in_words(row, said), origin)]


def finegrained_pairs(row: Row) -> list[JudgedPair]:
    """The six comparisons of a row, each with its one vote."""
    return [
        JudgedPair(
            row.text("question"),
            ResponseDraft(row.text(ANSWERS[a])),
            ResponseDraft(row.text(ANSWERS[b])),
            (vote,),
            _ORIGIN,
        )
        for (a, b), vote in zip(PAIRS, _votes(row), strict=True)
    ]


def _votes(row: Row) -> list[float]:
    given = row.items("preference")
    if len(given) != len(PAIRS):
        found = f"{len(given)} preferences"
        raise bad_record(row.file, row.line, "preference", f"{len(PAIRS)}, one per pair", found)
    numbered = Row(row.file, row.line, {f"preference[{n}]": p for n, p in enumerate(given)})
    return [_VOTES[numbered.whole(field, range(3))] for field in numbered.values]


def _ordered(row: Row, asked: tuple[Message, ...]) -> BuildResult:
    """The group of four; a circle (a over b over c over a) leaves equal scores, and is counted."""
    votes = _votes(row)
    scores = [0.0] * 4
    for (a, b), vote in zip(PAIRS, votes, strict=True):
        scores[a] += vote / 3
        scores[b] += (1 - vote) / 3
    answers = [
        ResponseDraft(row.text(name), score) for name, score in zip(ANSWERS, scores, strict=True)
    ]
    made = group(asked, answers, replace(_ORIGIN, reference=row.optional_text("gold")))
    if isinstance(made, Kept) and not _is_order(votes):
        return replace(made, changed=(*made.changed, IN_A_CIRCLE))
    return made


def _is_order(votes: list[float]) -> bool:
    """Whether some ranking of the four, ties allowed, has exactly these preferences."""
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
    given = row.items("passages")
    if not all(isinstance(each, list) and each and all(map(is_text, each)) for each in given):
        raise row.bad("passages", "lists of texts, each a title and its sentences")
    return user("\n\n".join([question, *(" ".join(each[1:]) for each in given)]))


def _in_words(row: Row, said: Row) -> str:
    """Marked errors with the words that they mark, then what is missing."""
    text = row.text(ANSWERS[0])
    found = []
    for error in sorted(said.rows("errors"), key=lambda each: each.number("start")):
        start, end = (error.whole(side, range(len(text) + 1)) for side in ("start", "end"))
        found.append(f'{error.text("error type")}: "{text[start:end].strip()}"')
    found += [each.text("error type").replace("-", ": ", 1) for each in said.rows("missing-info")]
    return "\n".join(found) if found else "No errors."
