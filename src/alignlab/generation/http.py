"""One chat call over HTTP: what is sent, and what each way to fail means.

The key stands in no message: a server may repeat it, so it is struck out before anything is cut.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import openai
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from alignlab.generation.replies import ChatAnswer, Unreadable, read_reply, without_key
from alignlab.types import Usage

_TRY_AGAIN = {408, 409, 425, 429}
_HOPELESS = {401, 402, 403, 404}
_NOT_IMPLEMENTED = 501
_UNREAD = {"X-Stainless-Raw-Response": "true"}
"""What `with_raw_response` asks the client for: the reply as it came, to be read here."""
LONGEST_WAIT_S = 60.0
LONGEST_REASON = 200


class CallFailed(Exception):
    """This call will not succeed; others may."""

    def __init__(self, reason: str, *, exhausted: bool, usage: Usage):
        super().__init__(reason)
        self.exhausted = exhausted
        """Every attempt failed in a way that another might not have."""
        self.usage = usage
        """What the server took for replies that were of no use."""


class Hopeless(Exception):
    """No call will succeed: key, model name or quota is refused."""

    def __init__(self, reason: str, *, status: int):
        super().__init__(reason)
        self.status = status
        """HTTP status of the refusal."""


@dataclass(frozen=True)
class Patience:
    """How long one call is tried."""

    attempts: int
    """Attempts, the first included."""
    backoff_s: float
    """Seconds that the first wait may last."""
    timeout_s: float
    """Seconds until one attempt, from the first byte sent to the last received, is given up."""


async def chat(
    client: openai.AsyncOpenAI, payload: dict[str, Any], patience: Patience
) -> ChatAnswer:
    """Send one chat request; try again where that may help.

    The answer's usage holds what useless replies before it took, where they said so.

    Raises:
        CallFailed: this request is refused, or every attempt failed.
        Hopeless: every request would be refused.
    """
    retrying = AsyncRetrying(
        stop=stop_after_attempt(patience.attempts),
        wait=_wait(patience.backoff_s),
        retry=retry_if_exception(_worth_retrying),
        reraise=True,
    )
    lost = Usage()
    try:
        async for attempt in retrying:
            with attempt:
                try:
                    content = await _send(client, payload, patience.timeout_s)
                    answer = read_reply(content, payload, client.api_key)
                except Unreadable as error:
                    lost += error.usage
                    raise
                return replace(answer, usage=answer.usage + lost)
    # Causes are left out of the trace, for they may repeat the key.
    except openai.APIStatusError as error:
        reason = _status_reason(error, client.api_key)
        if error.status_code in _HOPELESS or error.code == "insufficient_quota":
            raise Hopeless(reason, status=error.status_code) from None
        raise CallFailed(reason, exhausted=_worth_retrying(error), usage=lost) from None
    except openai.APIError as error:
        kind = type(error.__cause__ or error).__name__
        raise CallFailed(f"no connection ({kind})", exhausted=True, usage=lost) from None
    except Unreadable as error:
        raise CallFailed(str(error), exhausted=True, usage=lost) from None
    raise AssertionError("tenacity returns or raises")


async def _send(client: openai.AsyncOpenAI, payload: dict[str, Any], timeout_s: float) -> bytes:
    """The body of the reply; a server that trickles is given up like one that is silent."""
    try:
        async with asyncio.timeout(timeout_s):
            # Posted as it is: the client's typed way walks through every message first, which
            # takes a good part of its time. A payload with a prompt is plain text to continue.
            reply = await client.post(
                "/completions" if "prompt" in payload else "/chat/completions",
                cast_to=object,
                body=payload,
                options={"headers": _UNREAD},
            )
    except TimeoutError:
        raise Unreadable(f"no whole answer in {timeout_s:g} s") from None
    return bytes(reply.content)  # type: ignore[attr-defined]


def _worth_retrying(error: BaseException) -> bool:
    if isinstance(error, openai.APIStatusError):
        if error.code == "insufficient_quota":
            return False
        status = error.status_code
        return status in _TRY_AGAIN or (status >= 500 and status != _NOT_IMPLEMENTED)
    return isinstance(error, openai.APIConnectionError | Unreadable)


def _wait(backoff_s: float) -> Callable[[RetryCallState], float]:
    """Exponential with full jitter, after the time that the server asks for."""
    jitter = wait_random_exponential(multiplier=backoff_s, max=LONGEST_WAIT_S)

    def seconds(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = 0.0
        if isinstance(error, openai.APIStatusError):
            asked = retry_after(error.response.headers)
        # Without jitter all calls refused together would come back together.
        return min(asked, LONGEST_WAIT_S) + jitter(state)

    return seconds


def retry_after(headers: Any) -> float:
    """Seconds that a refusal's headers ask for: a number, a date, or OpenAI's milliseconds."""
    with suppress(ValueError):
        return _seconds(float(headers.get("retry-after-ms", "")) / 1000)
    text = headers.get("retry-after", "")
    with suppress(ValueError):
        return _seconds(float(text))
    with suppress(ValueError):
        date = parsedate_to_datetime(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return _seconds((date - datetime.now(UTC)).total_seconds())
    return 0.0


def _seconds(value: float) -> float:
    return max(0.0, value) if math.isfinite(value) else 0.0


def _status_reason(error: openai.APIStatusError, key: str) -> str:
    if error.status_code == 401:
        # Servers repeat the key here, in part or in full.
        return "status 401: the key is refused"
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    text = message if isinstance(message, str) else str(body or error.message)
    return f"status {error.status_code}: {without_key(text, key)[:LONGEST_REASON]}"
