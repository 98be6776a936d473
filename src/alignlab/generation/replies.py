"""What a chat completion says, read by hand: a server, or what stands before it, may send anything.

A reply that is cut off, wrongly encoded, of another shape, or that has no text where some was
written is unreadable, and asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignlab.types import Completion, Usage

ABSURD = 2**40
"""No count of tokens, and no whole number that a reply tells, is as large."""
SHOWN = 80
"""Characters of a reply that a complaint shows."""
SECRET_LENGTH = 16
"""A key at least this long is no word that a text may hold by chance ("EMPTY", "none")."""
_SILENT = tuple(f"no text (finish reason {reason!r})" for reason in ("stop", None))


class Unreadable(Exception):
    """The server answered, but not with a chat completion."""

    def __init__(self, reason: str, usage: Usage | None = None):
        super().__init__(reason)
        self.usage = usage or Usage()
        """What the server took for it, where that can be read."""


@dataclass(frozen=True)
class ChatAnswer:
    """What one call gave."""

    completions: tuple[Completion, ...]
    top_logprobs: tuple[tuple[str, float], ...]
    """Likeliest first tokens of the first choice with their log-probabilities, where asked for."""
    usage: Usage


def read_reply(content: bytes, payload: Mapping[str, Any], key: str) -> ChatAnswer:
    """Read the body of a reply to a request.

    Raises:
        Unreadable: it is no chat completion, or has no text.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):  # no JSON, no Unicode, absurd numbers or depth
        shown = without_key(content.decode("utf-8", "replace"), key)[:SHOWN]
        raise Unreadable(f"expected JSON, found {shown!r}") from None
    choices, told = _at(body, "choices"), _at(body, "usage")
    prompt_tokens, tokens = (
        _count(_at(told, "prompt_tokens")),
        _count(_at(told, "completion_tokens")),
    )
    usage = Usage(prompt_tokens, tokens, 1)
    paid = usage if isinstance(told, dict) else Usage()
    if not isinstance(choices, list) or not choices:
        shown = without_key(str(body), key)[:SHOWN]
        raise Unreadable(f"expected a chat completion, found {shown!r}", paid)
    answer = ChatAnswer(_completions(choices, usage, key), _top_logprobs(choices[0]), usage)
    if _lost_its_text(answer, payload):
        raise Unreadable("expected a text, found an empty one", paid)
    return answer


def without_key(text: str, key: str) -> str:
    """A text without the key, which servers like to repeat."""
    return text.replace(key, "***") if key else text


def _completions(choices: Sequence[Any], usage: Usage, key: str) -> tuple[Completion, ...]:
    """One per choice; the tokens, of which only the total is told, are shared out evenly."""
    share, rest = divmod(usage.tokens, len(choices))
    found = []
    for k, choice in enumerate(choices):
        tokens = share + (k < rest)
        message, reason = _at(choice, "message"), _at(choice, "finish_reason")
        text, refusal = _at(message, "content"), _at(message, "refusal")
        if message is None:  # of plain text continued
            text = _at(choice, "text")
        if isinstance(text, str) and reason != "content_filter":
            finish = "length" if reason == "length" else "stop"
            said = _unicode(text, key)
            found.append(Completion(said, finish, tokens, usage.prompt_tokens))  # type: ignore[arg-type]
            continue
        words = f", {str(refusal)[:SHOWN]!r}" if refusal else ""
        why = without_key(f"no text (finish reason {reason!r}{words})", key)
        found.append(Completion("", "error", tokens, usage.prompt_tokens, error=why))
    return tuple(found)


def _lost_its_text(answer: ChatAnswer, payload: Mapping[str, Any]) -> bool:
    """Whether texts are missing that must have been written, or that nothing says were not.

    A model may end its turn at once (a token each), stop at a string, spend all its tokens on
    thinking (finish "length"), or refuse; all of these would only be repeated.
    """
    completions = answer.completions
    if any(c.text for c in completions) or answer.top_logprobs or payload.get("stop"):
        return False
    if 1 <= answer.usage.tokens <= len(completions):
        return False
    return all(c.finish == "stop" or c.error in _SILENT for c in completions)


def _unicode(text: str, key: str) -> str:
    """Text that every file can hold: escaped halves of characters joined, or replaced."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return without_key(whole, key) if len(key) >= SECRET_LENGTH else whole


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < ABSURD else 0


def _top_logprobs(choice: Any) -> tuple[tuple[str, float], ...]:
    content = _at(_at(choice, "logprobs"), "content")
    top = _at(content[0], "top_logprobs") if isinstance(content, list) and content else None
    return tuple(
        (token, float(logprob))
        for one in (top if isinstance(top, list) else ())
        if isinstance(token := _at(one, "token"), str)
        and isinstance(logprob := _at(one, "logprob"), int | float)
        and (isinstance(logprob, float) or abs(logprob) < ABSURD)
    )


def _at(value: Any, field: str) -> Any:
    return value.get(field) if isinstance(value, dict) else None
