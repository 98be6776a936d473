"""Share the calls to one model among servers that all answer for it.

A call goes to the server with the fewest calls under way. A server that fails rests for a while,
and its calls go to the others; a call fails when its attempts are used up, on whichever servers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

import openai

from alignlab.generation.http import LONGEST_WAIT_S, CallFailed, RetryPolicy, chat
from alignlab.generation.refusals import EndpointLimits
from alignlab.generation.replies import ChatAnswer
from alignlab.types import Usage

log = logging.getLogger(__name__)

WORKERS_PER_CLIENT = 32
"""Calls per client: a client scans all its connections at every call and takes 20 ms to make."""


@dataclass
class Server:
    """One address of a pool, with the state of its calls."""

    url: str
    under_way: int = 0
    answered: int = 0
    handed_over: int = 0
    """Attempts that failed and were made again by any server of the pool."""
    failures: int = 0
    """Failed attempts since the last answer."""
    rests_until: float = 0.0
    """Time on the monotonic clock before which it gets calls only where all servers rest."""
    clients: Any = field(default=None, repr=False)


class ServerPool:
    """Servers of one model.

    Args:
        urls: addresses; at least one.
        policy: attempts and timeouts of a call.
    """

    def __init__(self, urls: Sequence[str], policy: RetryPolicy) -> None:
        self.servers = [Server(url) for url in urls]
        self._policy = policy

    @asynccontextmanager
    async def opened(self, key: str, workers: int) -> AsyncIterator[None]:
        """Hold connections for so many calls at once inside the block."""
        async with AsyncExitStack() as stack:
            for server in self.servers:
                made = [
                    await stack.enter_async_context(
                        openai.AsyncOpenAI(
                            api_key=key, base_url=server.url, timeout=None, max_retries=0
                        )
                    )
                    for _ in range(math.ceil(workers / WORKERS_PER_CLIENT))
                ]
                server.clients = cycle(made)
            yield

    async def chat(self, payload: dict[str, Any]) -> ChatAnswer:
        """Send one request to a server; try again, and elsewhere, where that may help.

        Raises:
            CallFailed: the request is refused, or every attempt failed.
        """
        if len(self.servers) == 1:
            return await self._sent(self.servers[0], payload, self._policy)
        once = replace(self._policy, attempts=1)
        lost = Usage()
        for attempt in range(1, self._policy.attempts + 1):
            server = await self._free()
            try:
                answer = await self._sent(server, payload, once)
            except CallFailed as error:
                lost += error.usage
                learnable = error.refusal and EndpointLimits().learn(error.refusal, payload)
                if learnable or not error.exhausted or attempt == self._policy.attempts:
                    raise CallFailed(str(error), lost, error.refusal) from None
                self._rest(server, error)
            else:
                server.failures, server.rests_until = 0, 0.0
                return replace(answer, usage=answer.usage + lost)
        raise AssertionError("the last attempt returns or raises")

    def take_counts(self) -> dict[str, tuple[int, int]]:
        """Return answered and handed-over calls of every server since the last call of this."""
        found = {s.url: (s.answered, s.handed_over) for s in self.servers}
        for server in self.servers:
            server.answered = server.handed_over = 0
        return found

    async def _sent(
        self, server: Server, payload: dict[str, Any], policy: RetryPolicy
    ) -> ChatAnswer:
        server.under_way += 1
        try:
            answer = await chat(next(server.clients), payload, policy)
        finally:
            server.under_way -= 1
        server.answered += 1
        return answer

    async def _free(self) -> Server:
        """Return the least loaded server that does not rest; wait where all of them do."""
        first = min(self.servers, key=lambda server: server.rests_until)
        await asyncio.sleep(max(0.0, first.rests_until - time.monotonic()))
        now = time.monotonic()
        awake = [s for s in self.servers if s.rests_until <= now] or [first]
        return min(awake, key=lambda s: (s.under_way, s.answered))

    def _rest(self, server: Server, error: CallFailed) -> None:
        """Give a failed server no calls for a time that doubles with each failure."""
        server.handed_over += 1
        if server.rests_until > time.monotonic():
            return  # of the calls that were under way, the first decided
        server.failures += 1
        if server.failures == 1:
            others = len(self.servers) - 1
            log.warning(
                "%s: %s; its calls go to the other %s", server.url, error,
                "server" if others == 1 else f"{others} servers",
            )  # fmt: skip
        pause = self._policy.backoff_s * 2 ** min(server.failures - 1, 10)
        server.rests_until = time.monotonic() + min(pause, LONGEST_WAIT_S)
