"""One chat call over HTTP: what is sent, what comes back, and what each failure means."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import openai
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from alignlab.types import Completion, Usage

_TRY_AGAIN = {408, 409, 425, 429}
_HOPELESS = {401, 403, 404}
LONGEST_WAIT_S = 60.0


class Unreadable(Exception):
    """The server answered, but not with a chat completion (cut-off JSON, a proxy's page)."""


class CallFailed(Exception):
    """This call will not succeed; others may."""

    def __init__(self, reason: str, *, exhausted: bool):
        super().__init__(reason)
        self.exhausted = exhausted
        """Every attempt failed in a way that another might not have."""


class Hopeless(Exception):
    """No call will succeed: key, model name or quota is refused."""


@dataclass(frozen=True)
class ChatAnswer:
    """What one call gave."""

    completions: tuple[Completion, ...]
    top_logprobs: tuple[tuple[str, float], ...]
    """Likeliest first tokens of the first choice with their log-probabilities, where asked for."""
    usage: Usage


async def chat(
    client: openai.AsyncOpenAI, payload: dict[str, Any], *, attempts: int, backoff_s: float
) -> ChatAnswer:
    """Send one chat request; try again where that may help.

    Raises:
        CallFailed: this request is refused, or every attempt failed.
        Hopeless: every request would be refused.
    """
    retrying = AsyncRetrying(
        stop=stop_after_attempt(attempts),
        wait=_wait(backoff_s),
        retry=retry_if_exception(_worth_retrying),
        reraise=True,
    )
    try:
        async for attempt in retrying:
            with attempt:
                return _read(await _create(client, payload))
    except openai.APIStatusError as error:
        if error.status_code in _HOPELESS or error.code == "insufficient_quota":
            raise Hopeless(_reason(error)) from error
        raise CallFailed(_reason(error), exhausted=_worth_retrying(error)) from error
    except (openai.APIError, Unreadable) as error:
        raise CallFailed(_reason(error), exhausted=True) from error
    raise AssertionError("tenacity returns or raises")


async def _create(client: openai.AsyncOpenAI, payload: dict[str, Any]) -> Any:
    try:
        return await client.chat.completions.create(**payload)
    except json.JSONDecodeError as error:
        raise Unreadable(f"expected JSON, found {error.doc[:80]!r}") from error


def _worth_retrying(error: BaseException) -> bool:
    if isinstance(error, openai.APIStatusError):
        if error.code == "insufficient_quota":
            return False
        return error.status_code in _TRY_AGAIN or error.status_code >= 500
    return isinstance(
        error, openai.APIConnectionError | openai.APIResponseValidationError | Unreadable
    )


def _wait(backoff_s: float) -> Callable[[RetryCallState], float]:
    """Exponential with full jitter, but no sooner than the server asks."""
    jitter = wait_random_exponential(multiplier=backoff_s, max=LONGEST_WAIT_S)

    def seconds(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = 0.0
        if isinstance(error, openai.APIStatusError):
            header = error.response.headers.get("retry-after", "")
            asked = float(header) if header.replace(".", "", 1).isdigit() else 0.0
        return max(jitter(state), min(asked, LONGEST_WAIT_S))

    return seconds


def _read(reply: Any) -> ChatAnswer:
    """Check a reply by hand: the client passes on whatever JSON (or text) it was sent."""
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise Unreadable(f"expected a chat completion, found {str(reply)[:80]!r}")
    usage = getattr(reply, "usage", None)
    prompt_tokens = int(getattr(usage, "prompt_tokens", None) or 0)
    tokens = int(getattr(usage, "completion_tokens", None) or 0)
    share, rest = divmod(tokens, len(choices))
    completions = tuple(
        _completion(choice, tokens=share + (k < rest), prompt_tokens=prompt_tokens)
        for k, choice in enumerate(choices)
    )
    return ChatAnswer(completions, _top_logprobs(choices[0]), Usage(prompt_tokens, tokens, 1))


def _completion(choice: Any, *, tokens: int, prompt_tokens: int) -> Completion:
    text = getattr(getattr(choice, "message", None), "content", None)
    reason = getattr(choice, "finish_reason", None)
    if not isinstance(text, str) or reason == "content_filter":
        refused = getattr(getattr(choice, "message", None), "refusal", None)
        why = f"no text (finish reason {reason!r}{f', {refused!r}' if refused else ''})"
        return Completion("", "error", tokens, prompt_tokens, error=why)
    return Completion(text, "length" if reason == "length" else "stop", tokens, prompt_tokens)


def _top_logprobs(choice: Any) -> tuple[tuple[str, float], ...]:
    content: Sequence[Any] = getattr(getattr(choice, "logprobs", None), "content", None) or ()
    return (
        tuple((top.token, float(top.logprob)) for top in content[0].top_logprobs) if content else ()
    )


def _reason(error: Exception) -> str:
    if isinstance(error, openai.APIStatusError):
        return f"status {error.status_code}: {str(error.message)[:200]}"
    return f"{type(error).__name__}: {str(error)[:200]}"
