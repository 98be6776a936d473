"""Parser of chat completions that tolerates malformed replies of servers and gateways.

A reply that is truncated, wrongly encoded, of another shape, or without the text that its token
count implies is unreadable, and requested again. A reply that holds an error is an error, whatever
its status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignlab.generation.streams import joined_events
from alignlab.types import Completion, Finish, Usage

ABSURD = 2**40
"""Largest count of tokens, or whole number, read from a reply."""
ROUNDING = 1e-3
"""Largest log-probability read from a reply, in nats."""
SHOWN = 80
"""Characters of a reply shown in an error message."""
SECRET_LENGTH = 16
"""Shortest key that is removed from texts; shorter ones may be words ("EMPTY", "none")."""
_EVENT = re.compile(rb"\s*(?:data|event|id|retry)?:")
"""Start of a reply that is streamed though nobody asked for it."""
_CUT = re.compile(r"length|max_|limit|context|truncat|incomplete")
"""Finish reasons of a text that was cut off, as servers name them."""
_BROKEN = re.compile(r"error|abort|cancel|time.?out|insufficient|malformed")
"""Finish reasons of an upstream that broke off."""
_FILTERED = {"content_filter", "sensitive", "safety", "recitation", "prohibited_content",
             "blocklist", "spii"}  # fmt: skip
_NAMED_STATUS = {"invalid_request": 400, "badrequest": 400, "bad_request": 400}
"""Word in an error's code or type -> HTTP status; other errors may be of the moment."""
_SILENT = tuple(f"no text (finish reason {reason!r})" for reason in ("stop", None))


class Unreadable(Exception):
    """Error for a reply that is not a chat completion."""

    def __init__(self, reason: str, usage: Usage | None = None, error: Any = None):
        super().__init__(reason)
        self.usage = usage or Usage()
        """Tokens of the reply, where it states them."""
        self.body = error
        """Error in the reply, if there is one."""
        self.status = _status_in(error)
        """HTTP status in the error; 0 where it names none."""


@dataclass(frozen=True)
class ChatAnswer:
    """Completions of one call, with their cost."""

    completions: tuple[Completion, ...]
    top_logprobs: tuple[tuple[str, float], ...]
    """Likeliest first tokens of the first choice with their log-probabilities, where requested."""
    usage: Usage
    model: str = ""
    """Model that the reply names; empty where it names none."""


def read_reply(content: bytes, payload: Mapping[str, Any], key: str) -> ChatAnswer:
    """Parse the body of a reply to a request.

    Raises:
        Unreadable: it is no chat completion, or has no text.
    """
    try:
        body = joined_events(content) if _EVENT.match(content) else json.loads(content)
    except (ValueError, RecursionError):  # no JSON, no Unicode, absurd numbers or depth
        shown = without_key(content.decode("utf-8", "replace"), key)[:SHOWN]
        raise Unreadable(f"expected JSON, found {shown!r}") from None
    choices, stated = _at(body, "choices"), _at(body, "usage")
    prompt_tokens = _count(_at(stated, "prompt_tokens"))
    rest = _count(_at(stated, "total_tokens")) - prompt_tokens
    usage = Usage(prompt_tokens, _count(_at(stated, "completion_tokens")) or max(0, rest), 1)
    paid = usage if isinstance(stated, dict) else Usage()
    error = _error_in(body, choices)
    if error is not None:
        message = _at(error, "message") or error
        raise Unreadable(f"an error: {without_key(str(message), key)[:SHOWN]}", paid, error)
    if not isinstance(choices, list) or not choices:
        shown = without_key(str(body), key)[:SHOWN]
        raise Unreadable(f"expected a chat completion, found {shown!r}", paid)
    named = _at(body, "model")
    answer = ChatAnswer(
        _completions(choices, usage, key),
        _top_logprobs(choices[0]),
        usage,
        without_key(named, key)[:SHOWN] if isinstance(named, str) else "",
    )
    if _lost_its_text(answer, payload):
        raise Unreadable(f"expected a text, found an empty one{_thought(choices[0])}", paid)
    return answer


def _status_in(error: Any) -> int:
    """Return the HTTP status that an error's code or type names; 0 for none."""
    code = str(_at(error, "code") or _at(error, "status") or "")
    if code.isdigit():
        number = int(code[:3]) if len(code) <= 5 else 0  # FastChat's codes have two more digits
        return number if 400 <= number < 600 else 0
    named = f"{code} {_at(error, 'type') or ''}".lower()
    return next((status for word, status in _NAMED_STATUS.items() if word in named), 0)


def without_key(text: str, key: str) -> str:
    """Remove the key from a text, which servers like to repeat."""
    return text.replace(key, "***") if key else text


def _thought(choice: Any) -> str:
    """Describe the reasoning that a server gave in place of a text."""
    message = _at(choice, "message")
    thought = _at(message, "reasoning_content") or _at(message, "reasoning")
    if not isinstance(thought, str) or not thought.strip():
        return ""
    return f" (all {len(thought)} characters are in the field of the reasoning)"


def _error_in(body: Any, choices: Any) -> Any:
    """Return the error that a reply or one of its choices holds, or None.

    Gateways send one under status 200 where their upstream breaks during the reply.
    """
    several = choices if isinstance(choices, list) else []
    if _at(body, "object") == "error":  # as vLLM and FastChat write it
        return body
    for part in (body, *several):
        if error := _at(part, "error"):
            return error
        if part is not body and _BROKEN.search(str(_at(part, "finish_reason")).lower()):
            return f"finish reason {_at(part, 'finish_reason')!r}"
    return None


def _completions(choices: Sequence[Any], usage: Usage, key: str) -> tuple[Completion, ...]:
    """Build one completion per choice; the total of tokens is divided evenly."""
    share, rest = divmod(usage.tokens, len(choices))
    found = []
    for k, choice in enumerate(choices):
        tokens = share + (k < rest)
        message, reason = _at(choice, "message"), _at(choice, "finish_reason")
        refusal = _at(message, "refusal") or _part(_at(message, "content"), "refusal")
        # A choice without a message continues plain text.
        text = _at(choice, "text") if message is None else _part(_at(message, "content"), "text")
        plain_reason = str(reason).lower()
        if isinstance(text, str) and not refusal and plain_reason not in _FILTERED:
            finish: Finish = "length" if _CUT.search(plain_reason) else "stop"
            unicode = _unicode(text, key)
            found.append(Completion(unicode, finish, tokens, usage.prompt_tokens))
            continue
        words = f", {str(refusal)[:SHOWN]!r}" if refusal else ""
        why = without_key(f"no text (finish reason {reason!r}{words})", key)
        found.append(Completion("", "error", tokens, usage.prompt_tokens, error=why))
    return tuple(found)


def _part(content: Any, kind: str) -> str | None:
    """Join the parts of one kind of a message's content; None where it has none.

    Content is a text, or a list of texts and of parts with a type: "text", "output_text",
    "refusal", and thoughts, which are not part of the answer.
    """
    parts = content if isinstance(content, list) else [content]
    found = []
    for part in parts:
        named = _at(part, "type") or "text"
        text = part if isinstance(part, str) else _at(part, kind)
        if isinstance(text, str) and named in (kind, f"output_{kind}"):
            found.append(text)
    return "".join(found) if found else None


def _lost_its_text(answer: ChatAnswer, payload: Mapping[str, Any]) -> bool:
    """Return True if texts are missing that were written, or that nothing shows were not.

    A model may end its turn at once (a token each), stop at a string, spend all its tokens on
    thinking (finish "length"), or refuse; a retry would only repeat these.
    """
    completions = answer.completions
    if any(c.text for c in completions) or answer.top_logprobs or payload.get("stop"):
        return False
    if 1 <= answer.usage.tokens <= len(completions):
        return False
    return all(c.finish == "stop" or c.error in _SILENT for c in completions)


def _unicode(text: str, key: str) -> str:
    """Make a text encodable: join escaped surrogate halves, or replace them."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return without_key(whole, key) if len(key) >= SECRET_LENGTH else whole


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < ABSURD else 0


def _top_logprobs(choice: Any) -> tuple[tuple[str, float], ...]:
    """Read the likeliest first tokens: a list of records, or a mapping as of plain completions."""
    logprobs = _at(choice, "logprobs")
    content, legacy = _at(logprobs, "content"), _at(logprobs, "top_logprobs")
    top = _at(content[0], "top_logprobs") if isinstance(content, list) and content else None
    if isinstance(legacy, list) and legacy and isinstance(legacy[0], dict):
        top = [{"token": token, "logprob": logprob} for token, logprob in legacy[0].items()]
    found = tuple(
        (token, float(logprob))
        for one in (top if isinstance(top, list) else ())
        if isinstance(token := _at(one, "token"), str)
        and isinstance(logprob := _at(one, "logprob"), int | float)
        and abs(logprob) < ABSURD
    )
    # Probabilities in place of their logarithms are none.
    return () if any(logprob > ROUNDING for _, logprob in found) else found


def _at(value: Any, field: str) -> Any:
    return value.get(field) if isinstance(value, dict) else None
