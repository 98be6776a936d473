"""Layouts of votes between two models' answers: Chatbot Arena and MT-Bench.

`arena` (arXiv 2306.05685): `lmsys/chatbot_arena_conversations`, `lmsys/mt_bench_human_judgments`
and later releases hold two whole conversations, `conversation_a` and `conversation_b`.
`arena_prompts` (`lmarena-ai/arena-human-preference-55k`) holds the texts of all turns in three
lists. Where answers before the last one differ, the last ones have no prompt in common: the record
is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    Dropped,
    Origin,
    ResponseDraft,
    group,
)
from alignlab.data.conversations import NO_ANSWER, last_exchange, turns
from alignlab.data.formats import row_format
from alignlab.data.judged_pairs import FIRST, SECOND, TIE
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.types import Message

WINNERS = {"model_a": FIRST, "model_b": SECOND} | dict.fromkeys(
    ("tie", "tie (bothbad)", "tie (both bad)", "both_bad", "bothbad"), TIE
)
"""Values of `winner`."""
VOTES = {"winner_model_a": FIRST, "winner_model_b": SECOND, "winner_tie": TIE}
"""Fields of which one is 1."""


@row_format("arena", columns=[("winner", "conversation_a", "conversation_b")])
def arena(row: Row, options: Options) -> list[BuildResult]:
    """Two models' conversations with a vote, ties included; those of different contexts drop."""
    named = row.text("winner")
    if named not in WINNERS:
        raise row.bad("winner", "model_a, model_b, tie or tie (bothbad)")
    both = [turns(row, f"conversation_{side}") for side in "ab"]
    if row.has("turn"):  # of MT-Bench's two, the one that was judged
        both = [_up_to_judged(row, messages) for messages in both]
    return [_voted(row, both, WINNERS[named])]


@row_format(
    "arena_prompts",
    columns=[("prompt", "response_a", "response_b", *VOTES)],
)
def arena_prompts(row: Row, options: Options) -> list[BuildResult]:
    """Prompts and two models' answers as lists of turns, with a vote."""
    found = [vote for name, vote in VOTES.items() if row.whole(name, range(2))]
    if len(found) != 1:
        raise row.bad("winner_model_a", f"one vote in {', '.join(VOTES)}, of which {len(found)}")
    asked = row.texts("prompt")
    both = []
    for field in ("response_a", "response_b"):
        answers = [answer or "" for answer in row.items(field)]  # null is an empty answer
        if len(answers) != len(asked) or not all(isinstance(text, str) for text in answers):
            raise row.bad(field, f"a list of {len(asked)} texts, as in prompt")
        pairs = zip(asked, answers, strict=True)
        both.append(
            tuple(
                chain.from_iterable((Message("user", q), Message("assistant", a)) for q, a in pairs)
            )
        )
    return [_voted(row, both, found[0])]


def _up_to_judged(row: Row, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return a conversation up to the answer whose number is `turn`; whole if it has none."""
    ends = [i for i, message in enumerate(messages) if message.role == "assistant"]
    if not ends:
        return messages
    return messages[: ends[row.whole("turn", range(1, len(ends) + 1)) - 1] + 1]


def _voted(row: Row, both: Sequence[tuple[Message, ...]], vote: float) -> BuildResult:
    """Build the preference group of two conversations."""
    first, second = map(last_exchange, both)
    if first is None or second is None:
        return NO_ANSWER
    if first.context != second.context:
        return Dropped("contexts differ")
    models = [row.optional_text(f"model_{side}") or UNKNOWN_WRITER for side in "ab"]
    answers = [
        ResponseDraft(first.answer, vote, models[0]),
        ResponseDraft(second.answer, 1 - vote, models[1]),
    ]
    judge = row.get("judge")
    model = isinstance(judge, str | list) and "gpt" in str(judge).lower()
    return group(first.context, answers, Origin("arena", ordered_by="gpt-4" if model else "people"))
