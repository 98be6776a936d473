"""Calls to an OpenAI-compatible endpoint: concurrency, retries, limits, cache and budget.

The key comes from the environment variable OPENAI_API_KEY alone and is written nowhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from alignlab.configs import PositiveInt
from alignlab.errors import BadInput, RunFailed, unknown_name
from alignlab.generation.account import Account, Prices
from alignlab.generation.cache import AnswerCache, request_key
from alignlab.generation.engines import failed
from alignlab.generation.http import CallFailed, RetryPolicy
from alignlab.generation.pool import ServerPool
from alignlab.generation.refusals import EFFECTS, EndpointLimits, hint
from alignlab.generation.replies import ChatAnswer
from alignlab.records import from_dict, to_dict
from alignlab.types import Usage

log = logging.getLogger(__name__)

DEFAULT_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"


@dataclass(frozen=True)
class OpenAIConfig(Prices, RetryPolicy):
    """Options of an endpoint: concurrency, retries, prices, budgets and refused fields."""

    concurrency: PositiveInt = 16
    """Most calls under way at once, over all addresses."""
    give_up_after: PositiveInt = 8
    """Calls in a row that exhaust their attempts before the server counts as dead; also first calls
    refused for one reason before the run is stopped."""
    prefill: Literal["none", "vllm"] = "none"
    """Way to continue a started turn: none, or vLLM's extra fields."""
    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the limit of new tokens; the other one is tried where an endpoint refuses it."""
    without: str = ""
    """Fields that the endpoint refuses, separated by commas, of n, seed, top_p, temperature, stop,
    logprobs, system; fields named in its errors are left out anyway."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.left_out:
            if name not in EFFECTS:
                raise unknown_name("field to leave out", name, EFFECTS)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Fields of `without`."""
        return tuple(name.strip() for name in self.without.split(",") if name.strip())


class EndpointNotFound(RunFailed):
    """Error for a server without this endpoint or model."""


class Endpoint:
    """One model at one address, or at several that share its calls, with limits and account.

    Args:
        model: name of the model, the same at every address.
        url: addresses, separated by commas. The first identifies the endpoint: others may be added
            later without a second call for what it answered.
        config: options.
        cache_dir: folder of the answers; None remembers them for the endpoint's lifetime.
    """

    def __init__(self, model: str, url: str, config: OpenAIConfig, cache_dir: Path | None):
        urls = [_base(one) for one in url.split(",")]
        if wrong := next((u for u in urls if not u.startswith(("http://", "https://"))), None):
            raise BadInput(f"openai: expected addresses that start with http, found {wrong!r}")
        if len(set(urls)) < len(urls):
            raise BadInput(f"openai: expected different addresses, found {url}")
        self.url, self.config = urls[0], config
        self.source, self._model = f"{model}@{self.url}", model
        self._named: set[str] = set()
        self._key, *_ = [_key_for(one) for one in urls]
        self.pool = ServerPool(urls, config)
        self._cache = AnswerCache(cache_dir / "calls.sqlite" if cache_dir else None)
        self.account = Account(self.source, config, self._cache)
        learnt = self._cache.limits(self.source)
        self.limits = from_dict(EndpointLimits, learnt) if learnt else EndpointLimits()
        self.limits = self.limits.leaving_out(*config.left_out)
        self.dead_calls = 0
        """Calls in a row that exhausted their attempts."""
        self.has_answered = False
        self._refused: list[str] = []
        """Refusals before the first answer."""

    def answer(self, payloads: Sequence[dict[str, Any]]) -> list[ChatAnswer]:
        """Answer every request once; equal ones share an answer.

        Raises:
            RunFailed: a budget is spent, the key is refused, the server is dead, or the first
                calls are refused alike; answers that came before are in the cache.
        """
        keys = [self._key_of(payload) for payload in payloads]
        answers: dict[str, ChatAnswer] = {}
        open_calls: dict[str, dict[str, Any]] = {}
        for key, payload in zip(keys, payloads, strict=True):
            held = self._held(key)
            if held is not None and len(held.completions) == payload["n"]:
                answers[key] = held
            else:
                open_calls[key] = payload
        if open_calls:
            try:
                answers |= _run(self._call_all(open_calls))
            finally:
                self._report_servers()
                self.account.write()
        return [answers[key] for key in keys]

    def remember(self, limits: EndpointLimits) -> None:
        """Apply limits from now on, also in later runs on this cache; log the new ones."""
        for sentence in limits.sentences():
            if sentence not in self.limits.sentences():
                log.warning("%s: the endpoint %s", self.source, sentence)
        self.limits = limits
        learnt = tuple(name for name in limits.without if name not in self.config.left_out)
        self._cache.put_limits(self.source, to_dict(replace(limits, without=learnt)))

    def _report_servers(self) -> None:
        """Add a pool's calls by server to the cache, and log failures."""
        counts = self.pool.take_counts()
        if len(counts) == 1:
            return
        self._cache.add_servers(self.source, counts)
        if lost := {url: failed for url, (_, failed) in counts.items() if failed}:
            shown = ", ".join(f"{url} answered {done}" for url, (done, _) in counts.items())
            moved = ", ".join(f"{number} of {url}" for url, number in lost.items())
            log.warning("calls handed over after a failure: %s; %s", moved, shown)

    def _key_of(self, payload: dict[str, Any]) -> str:
        return request_key({"url": self.url, **payload})

    def _held(self, key: str) -> ChatAnswer | None:
        held = self._cache.get(key)
        self.has_answered |= held is not None
        return None if held is None else from_dict(ChatAnswer, held)

    async def _call_all(self, open_calls: dict[str, dict[str, Any]]) -> dict[str, ChatAnswer]:
        answers: dict[str, ChatAnswer] = {}
        queue = iter(open_calls.items())
        stop: list[RunFailed] = []
        workers = min(self.config.concurrency, len(open_calls))

        async def work() -> None:
            # A worker that fails for all tells the others, which finish (and keep) what they began.
            for key, payload in queue:
                try:
                    answers[key] = await self._call(payload)
                except RunFailed as error:
                    stop.append(error)
                if stop:
                    return

        async with self.pool.opened(self._key or "none", workers):
            await asyncio.gather(*(work() for _ in range(workers)))
        if stop:
            raise stop[0]
        return answers

    async def _call(self, payload: dict[str, Any]) -> ChatAnswer:
        """Send one request; ask for the rest where a server returns fewer samples than `n`."""
        answer = ChatAnswer((), (), Usage())
        while (missing := payload["n"] - len(answer.completions)) > 0:
            rest = {**payload, "n": missing, "seed": payload["seed"] + len(answer.completions)}
            try:
                more = await self._part(rest)
            except CallFailed as error:
                # Samples that came are as good as if the others had been asked for apart.
                lost = (failed(str(error)),) * missing
                return replace(answer, completions=(*answer.completions, *lost))
            answer = replace(more, completions=(*answer.completions, *more.completions[:missing]))
        return answer

    async def _part(self, payload: dict[str, Any]) -> ChatAnswer:
        """Send one call, paid once: each is stored under its key before the next is made.

        The key is of the request as meant, whatever fields the endpoint's limits leave out.
        """
        key = self._key_of(payload)
        held = self._held(key)
        if held is not None:
            return held
        try:
            answer = await self._adapted(payload)
        except CallFailed as error:
            self.account.record_failed(error.usage)
            self.dead_calls = self.dead_calls + 1 if error.exhausted else 0
            if self.dead_calls >= self.config.give_up_after:
                raise RunFailed(
                    f"{self.source}: {self.dead_calls} calls in a row failed after "
                    f"{self.config.attempts} attempts each, the last with {error}"
                ) from None
            self._stop_where_all_are_refused(error, payload)
            raise
        self.dead_calls, self.has_answered = 0, True
        self._compare_model(answer.model)
        self.account.record(key, answer)
        return answer

    def _compare_model(self, named: str) -> None:
        """Log once that the endpoint answers with another model than was asked for."""
        own, other = (re.sub(r"[^a-z0-9]", "", n.rpartition("/")[2].lower())
                      for n in (self._model, named))  # fmt: skip
        if named not in self._named and own not in other and other not in own:
            log.warning("%s: the answers name another model: %s", self.source, named)
        self._named.add(named)

    async def _adapted(self, payload: dict[str, Any]) -> ChatAnswer:
        """Send one call without the fields that the endpoint turns out to refuse."""
        while True:
            sent = self.limits.apply(payload)
            try:
                with self.account.call():
                    return await self.pool.chat(sent)
            except CallFailed as error:
                if error.refusal is None:
                    raise
                if sent != self.limits.apply(payload):
                    continue  # another call has learnt meanwhile
                learnt = self.limits.learn(error.refusal, sent)
                if learnt is not None:
                    self.remember(learnt)
                elif error.refusal.ends_all_calls:
                    if error.refusal.status != 404:
                        raise RunFailed(f"{self.source}: {error}") from None
                    raise EndpointNotFound(
                        f"{self.source}: {error}{self._version_hint(error)}"
                    ) from None
                else:
                    raise

    def _version_hint(self, error: CallFailed) -> str:
        """Return advice on an address without a path, where most servers have theirs under /v1."""
        bare = not urlsplit(self.url).path and "model" not in str(error).lower()
        return f"; the address may have to be {self.url}/v1" if bare else ""

    def _stop_where_all_are_refused(self, error: CallFailed, payload: dict[str, Any]) -> None:
        """Stop a run whose first calls are all refused for one reason.

        Raises:
            RunFailed: so many were, and none was answered.
        """
        refusal = error.refusal
        if self.has_answered or refusal is None:
            return
        if refusal.is_transient or refusal.is_about_content:
            return
        self._refused.append(re.sub(r"\d+", "#", str(error)))
        if self._refused.count(self._refused[-1]) >= self.config.give_up_after:
            raise RunFailed(
                f"{self.source}: the first {len(self._refused)} calls were all refused "
                f"({error}); {hint(refusal, payload)}"
            ) from None


def _base(url: str) -> str:
    """Return the address of the API, also from the full one of its chat completions."""
    return url.rstrip("/").removesuffix("/completions").removesuffix("/chat").rstrip("/")


def _key_for(url: str) -> str:
    """Read the key from the environment, for an address that holds none itself.

    Raises:
        BadInput: OpenAI's own address without a key, a key that no header can hold, or a user or
            password in the address (settings are written to files).
    """
    address = urlsplit(url)
    if address.username or address.password:
        raise BadInput(
            f"openai: expected an address without user and password (the key comes from "
            f"{KEY_VARIABLE}), found one at {address.hostname}"
        )
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key.isprintable() or not key.isascii():
        raise BadInput(f"{KEY_VARIABLE}: expected printable ASCII, found other characters")
    if not key and address.hostname == urlsplit(DEFAULT_URL).hostname:
        raise BadInput(f"{url}: expected a key in {KEY_VARIABLE}, found none")
    return key


def _run(work: Coroutine[Any, Any, dict[str, ChatAnswer]]) -> dict[str, ChatAnswer]:
    """Run a coroutine to its end; on a new thread where this one runs a loop (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
