"""Read conversations and prompts in the forms of public data sets: lists of turns, or columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alignlab.data.build_records import BuildResult, Dropped, Origin, ResponseDraft, pair
from alignlab.data.rows import Row, structure_in
from alignlab.errors import bad_record
from alignlab.text import trimmed
from alignlab.types import Message, Role

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "ai": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
}
PROMPTS = ("prompt", "instruction", "question", "query", "input", "messages", "conversations")
"""Columns that hold the prompt, by priority."""
SYSTEM = ("system", "system_prompt", "system_message")
"""Columns that hold the system turn."""
NO_ANSWER = Dropped("does not end in an assistant turn")
_WEIGHTS = ("weight", "loss", "train", "training", "trainable", "loss_mask", "loss_weight",
            "train_on_turn", "train_turn")  # fmt: skip
"""Fields of a turn that select it for training."""
_TEXT_PARTS = (None, "text", "input_text", "output_text")
_SERIALISED = re.compile(r"\s*(array\()?[\[(]?\s*\{\s*(['\"])(role|from|content|value)\2\s*:")


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    message: Message
    learnt: bool | None
    """True or false where the data selects or excludes the turn for training, else None."""


@dataclass(frozen=True)
class Exchange:
    """Conversation up to a user turn, with the answer."""

    context: tuple[Message, ...]
    answer: str


def weighted_turns(row: Row, field: str) -> tuple[Turn, ...]:
    """Read a list of turns with their training weights.

    Raises:
        BadInput: the field is not a list of turns, or a role is unknown (a tool, for example).
    """
    rows = row.rows(field)
    if not rows:
        raise row.bad(field, "at least one turn")
    return tuple(map(turn, rows))


def turns(row: Row, field: str) -> tuple[Message, ...]:
    """Read a list of turns.

    Raises:
        BadInput: the last turn is an answer that the data excludes from training.
    """
    weighted = weighted_turns(row, field)
    if weighted[-1].message.role == "assistant" and weighted[-1].learnt is False:
        raise row.bad(field, "an answer to learn as the last turn (not of weight 0)")
    return tuple(each.message for each in weighted)


def turn(row: Row) -> Turn:
    """Read one turn; text parts of its content are joined.

    Raises:
        BadInput: the role is unknown, or a part is not text.
    """
    role_key = "from" if row.has("from") and not row.has("role") else "role"
    content_key = "value" if role_key == "from" else "content"
    role = ROLES.get(row.text(role_key).lower())
    if role is None:
        raise row.bad(role_key, "one of " + ", ".join(ROLES))
    if isinstance(row.get(content_key), list):
        content = "".join(map(_part, row.rows(content_key)))
    else:
        content = row.text(content_key)
    return Turn(Message(role, content), _learnt(row))


def _part(row: Row) -> str:
    if row.get("type") not in _TEXT_PARTS:
        raise row.bad("type", "text")
    return row.text("text")


def _learnt(row: Row) -> bool | None:
    weights = [(name, row.truth(name)) for name in _WEIGHTS if row.has(name)]
    for name, learnt in weights[1:]:
        if learnt != weights[0][1]:
            raise row.bad(name, f"the same as {weights[0][0]}")
    return weights[0][1] if weights else None


def is_turns(row: Row, field: str) -> bool:
    """Return true if a field holds a list of turns, serialised or not, rather than one text."""
    value = row.get(field)
    if not isinstance(value, str) or not _SERIALISED.match(value):
        return isinstance(value, list)
    structure = structure_in(value)
    # JSON with other keys is a text; turns that cannot be parsed are still turns.
    first = structure[0] if isinstance(structure, list) and structure else structure
    if not isinstance(first, Mapping):
        return True
    return bool(first.keys() & {"role", "from"}) and bool(first.keys() & {"content", "value"})


def answer_turns(row: Row, field: str) -> tuple[Message, ...]:
    """Read an answer: a list of turns, one turn, or the text of an assistant turn."""
    if is_turns(row, field):
        return turns(row, field)
    if isinstance(row.get(field), Mapping):
        return (turn(row.row(field)).message,)
    return (Message("assistant", row.text(field)),)


def prompt_of(row: Row, answers: tuple[str, ...] = ()) -> tuple[Message, ...]:
    """Read the prompt of a row from any of `PROMPTS`, after its system turn and history.

    Args:
        row: the record.
        answers: the row's answers; a final assistant turn equal to one of them is cut off.

    Raises:
        BadInput: no column holds a prompt, or two hold different ones.
    """
    filled = [name for name in PROMPTS if not _is_blank(row, name)]
    if not filled:
        # An empty prompt is dropped and counted; a missing one is a bad record.
        return (Message("user", row.text("prompt")),)
    field = filled[0]
    if is_turns(row, field):
        asked = turns(row, field)
        if len(asked) > 1 and asked[-1].role == "assistant" and asked[-1].content in answers:
            asked = asked[:-1]
    else:
        text = row.text(field)
        if field in ("instruction", "question", "query"):
            text = _with_input(row, text)
        elif _agrees(row.peek("context") or "", text):
            row.get("context")  # the prompt holds it
        asked = (Message("user", text),)
    shown = "\n".join(message.content for message in asked)
    for other in filled[1:]:
        if other in row.values and not _agrees(row.values[other], shown):
            _refuse_second_prompt(row, field, other)
    return with_system(row, (*history(row), *asked))


def history(row: Row) -> list[Message]:
    """Read the questions and answers of the `history` column."""
    messages: list[Message] = []
    for number, exchanged in enumerate(row.items("history") if row.has("history") else []):
        place = f"history[{number}]"
        exchange = Row(row.file, row.line, {place: exchanged}).texts(place)
        if len(exchange) != 2:
            expected = "a question and an answer"
            raise bad_record(row.file, row.line, place, expected, repr(exchanged))
        messages += [Message("user", exchange[0]), Message("assistant", exchange[1])]
    return messages


def with_system(row: Row, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Prepend the system turn of a column of `SYSTEM` to a conversation.

    Raises:
        BadInput: the conversation opens with another system turn.
    """
    for field in SYSTEM:
        if _is_blank(row, field):
            continue
        system = Message("system", row.text(field))
        if messages and messages[0].role == "system" and messages[0] != system:
            raise row.bad(field, f"the conversation's own system turn {messages[0].content!r}")
        if not messages or messages[0] != system:
            messages = (system, *messages)
    return messages


def instruction_of(row: Row) -> str:
    """Read an instruction, followed by its `input` or `context` if present."""
    return _with_input(row, row.text("instruction"))


def desirability(row: Row) -> bool | None:
    """Read the label of an unpaired preference (KTO); None without one.

    `kto_tag` counts in any form, `label` only as true or false, as a number may be a class.

    Raises:
        BadInput: records before this one have a label and this one none, or the other way round.
    """
    named = "kto_tag" if row.has("kto_tag") else "label"
    word = str(row.peek("label")).strip().lower()
    found = row.truth(named) if named == "kto_tag" or word in ("true", "false") else None
    if row.reading is not None:
        known = row.reading.memory.setdefault("is labelled", found is not None)
        if known != (found is not None):
            expected = f"{'a' if known else 'no'} label, as in the records before"
            field = (
                named if found is not None or "kto_tag" not in row.reading.columns else "kto_tag"
            )
            raise row.bad(field, expected)
    return found


def last_exchange(messages: tuple[Message, ...]) -> Exchange | None:
    """Split off the last answer; None if the last turn is not the assistant's."""
    if not messages or messages[-1].role != "assistant":
        return None
    return Exchange(messages[:-1], messages[-1].content)


def compared(
    chosen: tuple[Message, ...],
    rejected: tuple[Message, ...],
    origin: Origin,
    scores: tuple[float, float] = (0.0, -1.0),
) -> BuildResult:
    """Build a pair of two dialogues; dialogues that differ before the last answer are dropped."""
    better, worse = last_exchange(chosen), last_exchange(rejected)
    if better is None or worse is None:
        return NO_ANSWER
    if better.context != worse.context:
        return Dropped("contexts differ")
    return pair(
        better.context,
        ResponseDraft(better.answer, scores[0]),
        ResponseDraft(worse.answer, scores[1]),
        origin,
    )


def as_dicts(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Convert turns to `{"role": ..., "content": ...}`."""
    return [{"role": m.role, "content": m.content} for m in messages]


def _is_blank(row: Row, field: str) -> bool:
    value = row.peek(field)
    return not value or (isinstance(value, str) and not trimmed(value))


def _with_input(row: Row, text: str) -> str:
    """Append the `input` or `context` column to an instruction."""
    for field in ("input", "context"):
        if not _is_blank(row, field):
            return f"{text}\n\n{row.text(field)}"
    return text


def _agrees(value: Any, shown: str) -> bool:
    """Return true if another column's text is part of the prompt, or contains it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    inside = shown if isinstance(value, str) else json.dumps(shown, ensure_ascii=False)[1:-1]
    return trimmed(text) in shown or trimmed(inside) in text


def check_prompt(row: Row, dialogue: tuple[Message, ...]) -> None:
    """Check that the `prompt` column of a conversation repeats some of its turns.

    Raises:
        BadInput: it is another prompt.
    """
    if _is_blank(row, "prompt"):
        return
    if is_turns(row, "prompt"):
        agrees = all(message in dialogue for message in turns(row, "prompt"))
    else:
        agrees = _agrees(row.get("prompt"), "\n".join(m.content for m in dialogue))
    if not agrees:
        _refuse_second_prompt(row, "the conversation", "prompt")


def is_answered(row: Row) -> bool:
    """Return true if a column of turns ends in the assistant's."""
    for field in ("messages", "conversations"):
        value = row.values.get(field)
        found = structure_in(value) if isinstance(value, str) else value
        last = found[-1] if isinstance(found, list) and found else None
        if isinstance(last, Mapping):
            role = str(last.get("role") or last.get("from")).lower()
            if ROLES.get(role) == "assistant":
                return True
    return False


def _refuse_second_prompt(row: Row, used: str, other: str) -> None:
    expected = f"the same prompt as in {used!r} (?ignore={other} leaves it out)"
    raise bad_record(row.file, row.line, other, expected, repr(row.values[other]))
