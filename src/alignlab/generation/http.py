"""One HTTP call with retries, and the reasons of its failure.

The key appears in no message: a server may repeat it, so it is removed before anything is cut.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
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

from alignlab.configs import Positive, PositiveInt
from alignlab.generation.refusals import EndpointLimits, Refusal
from alignlab.generation.replies import ChatAnswer, Unreadable, read_reply, without_key
from alignlab.types import Usage

_UNREAD = {"X-Stainless-Raw-Response": "true"}
"""Headers with which `with_raw_response` requests the unparsed reply."""
LONGEST_WAIT_S = 60.0
LONGEST_REASON = 200


class CallFailed(Exception):
    """Error for one call that failed for good; others may succeed."""

    def __init__(self, reason: str, usage: Usage, refusal: Refusal | None = None):
        super().__init__(reason)
        self.usage = usage
        """Tokens of unusable replies."""
        self.refusal = refusal
        """The endpoint's last error; None where no error was read."""

    @property
    def exhausted(self) -> bool:
        """True where every attempt failed in a way that another attempt might not."""
        return self.refusal is None or self.refusal.is_transient


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts and timeouts of one call."""

    timeout_s: Positive = 120.0
    """Timeout of one attempt in seconds, from the first byte sent to the last received."""
    attempts: PositiveInt = 6
    """Attempts per call, the first included."""
    backoff_s: Positive = 1.0
    """Longest first wait in seconds; it doubles, with full jitter, up to a minute. A wait that the
    server asks for comes before it."""


async def chat(
    client: openai.AsyncOpenAI, payload: dict[str, Any], policy: RetryPolicy
) -> ChatAnswer:
    """Send one request; try again where that may help.

    Returns:
        The answer; its usage includes unusable replies before it, where they stated it.

    Raises:
        CallFailed: the request is refused, or every attempt failed.
    """
    key = client.api_key

    def may_help(error: BaseException) -> bool:
        refusal = _refusal(error, key)
        if refusal is None:
            return isinstance(error, openai.APIConnectionError | Unreadable)
        return refusal.is_transient and EndpointLimits().learn(refusal, payload) is None

    retrying = AsyncRetrying(
        stop=stop_after_attempt(policy.attempts),
        wait=_wait(policy.backoff_s),
        retry=retry_if_exception(may_help),
        reraise=True,
    )
    lost = Usage()
    try:
        async for attempt in retrying:
            with attempt:
                try:
                    content = await _send(client, payload, policy.timeout_s)
                    answer = read_reply(content, payload, key)
                except Unreadable as error:
                    lost += error.usage
                    raise
                return replace(answer, usage=answer.usage + lost)
    # Causes are left out of the trace, for they may repeat the key.
    except (openai.APIError, Unreadable) as error:
        raise CallFailed(_reason(error, key), lost, _refusal(error, key)) from None
    raise AssertionError("tenacity returns or raises")


async def _send(client: openai.AsyncOpenAI, payload: dict[str, Any], timeout_s: float) -> bytes:
    """Return the body of the reply; time out a server that trickles as one that is silent."""
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


def _wait(backoff_s: float) -> Callable[[RetryCallState], float]:
    """Return exponential backoff with full jitter, after the time that the server asks for."""
    jitter = wait_random_exponential(multiplier=backoff_s, max=LONGEST_WAIT_S)

    def seconds(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        pause = 0.0
        if isinstance(error, openai.APIStatusError):
            pause = retry_after(error.response.headers)
        # Without jitter all calls refused together would come back together.
        return min(pause, LONGEST_WAIT_S) + jitter(state)

    return seconds


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that the headers ask for: a number, a date, or OpenAI's milliseconds."""
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


def _refusal(error: BaseException, key: str) -> Refusal | None:
    """Read an error with a status, from the reply itself or from the body of a 200."""
    if isinstance(error, openai.APIStatusError):
        status, body, code = error.status_code, error.body or error.message, error.code
    elif isinstance(error, Unreadable) and error.status:
        body = error.body
        status, code = error.status, body.get("code") if isinstance(body, dict) else None
    else:
        return None
    return Refusal(status, without_key(str(body), key).lower(), str(code or ""))


def _reason(error: openai.APIError | Unreadable, key: str) -> str:
    """Describe in one line why a call failed."""
    if isinstance(error, Unreadable):
        return str(error)
    if not isinstance(error, openai.APIStatusError):
        return f"no connection ({type(error.__cause__ or error).__name__})"
    if error.status_code == 401:
        # Servers repeat the key here, in part or in full.
        return "status 401: the key is refused"
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    text = message if isinstance(message, str) else str(body or error.message)
    return f"status {error.status_code}: {without_key(text, key)[:LONGEST_REASON]}"
