"""Any OpenAI-compatible endpoint as an engine: bounded concurrency, retries, cache, budget.

The key comes from the environment variable OPENAI_API_KEY alone and is written nowhere.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import openai

from alignlab import seeds
from alignlab.errors import BadInput, RunFailed
from alignlab.generation.account import Account, Tariff
from alignlab.generation.cache import AnswerCache, Spent, request_key
from alignlab.generation.http import CallFailed, Hopeless, Patience, chat
from alignlab.generation.replies import ChatAnswer
from alignlab.generation.requests import check_sampling, failed
from alignlab.records import from_dict
from alignlab.registry import register
from alignlab.specs import read_options
from alignlab.types import Completion, CompletionRequest, Sampling, Usage

DEFAULT_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
WORKERS_PER_CLIENT = 32
"""A client looks through all its connections at every call, and takes 20 ms to be made."""
TOP_LOGPROBS = 20
"""The most that the API gives."""


@dataclass(frozen=True)
class OpenAIConfig(Tariff):
    """How an endpoint is called, and what it may cost."""

    concurrency: int = 16
    """Most calls under way at once."""
    timeout_s: float = 120.0
    """Seconds until one attempt is given up, from the first byte sent to the last received."""
    attempts: int = 6
    """Attempts per call, the first included."""
    backoff_s: float = 1.0
    """Seconds that the first wait may last; it doubles, with full jitter, up to a minute. A wait
    that the server asks for comes before it."""
    give_up_after: int = 8
    """Calls in a row that exhaust their attempts before the server counts as dead."""
    prefill: Literal["none", "vllm"] = "none"
    """How the endpoint continues a turn that has begun: not at all, or by vLLM's extra fields."""
    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls the limit of new tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("concurrency", "attempts", "give_up_after"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}: expected at least 1, found {getattr(self, name)}")
        for name in ("timeout_s", "backoff_s"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name}: expected more than 0, found {getattr(self, name)}")

    @property
    def patience(self) -> Patience:
        """How long one call is tried."""
        return Patience(self.attempts, self.backoff_s, self.timeout_s)


class NotThere(RunFailed):
    """The server has no such endpoint, or no such model."""


class OpenAIEngine:
    """A `Completer` over HTTP, and a `ChoiceScorer` for choices of one token."""

    def __init__(
        self,
        model: str,
        url: str = DEFAULT_URL,
        *,
        config: OpenAIConfig | None = None,
        cache_dir: Path | None = None,
    ):
        self.model, self.url = model, url.rstrip("/")
        self.config = config or OpenAIConfig()
        self.name = f"openai:{model}"
        self._key = _key_for(self.url)
        self._source = f"{model}@{self.url}"
        self._cache = AnswerCache(cache_dir / "calls.sqlite") if cache_dir else None
        self._account = Account(self._source, self.config, self._cache)
        self._dead_calls = 0

    @property
    def spent(self) -> Spent:
        """Tokens and dollars so far, those of answers that the cache already held included."""
        return self._account.spent

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in the order given.

        At temperature 0 one completion is asked for and repeated. A call that fails for good gives
        completions with an error.

        Raises:
            BadInput: a request has a prefix and the endpoint cannot continue one.
            RunFailed: a budget is spent, the key is refused, or the server is dead; answers that
                came before are in the cache.
        """
        answers = self._all([self._payload(request) for request in requests])
        return [
            answer.completions * (request.sampling.n // len(answer.completions))
            for answer, request in zip(answers, requests, strict=True)
        ]

    def continues_text(self) -> bool:
        """Whether the endpoint continues plain text, as a request without messages asks for.

        One token is asked for. A refusal is a no.

        Raises:
            RunFailed: as `complete`, or nothing can be told, for every attempt failed.
        """
        one = Sampling(temperature=0, top_p=1, max_tokens=1)
        request = CompletionRequest("continues text", (), one, 0, prefix="One, two,")
        dead_calls = self._dead_calls
        try:
            ((said,),) = self.complete([request])
        except NotThere:
            return False
        if self._dead_calls > dead_calls:
            raise RunFailed(f"{self._source}: expected a token of plain text, found {said.error}")
        return said.finish != "error"

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Log-probability in nats of each choice as the first token of the answer.

        Read from the endpoint's list of the 20 likeliest tokens: -inf for a choice that is not
        among them; NaN for a call that failed or an endpoint that gives no log-probabilities.
        Raises as `complete`.
        """
        asked = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        field = self.config.token_limit_field
        payloads = [
            self._payload(request) | asked | {field: 1, "n": 1, "temperature": 1.0, "top_p": 1.0}
            for request in requests
        ]
        return [_choices(answer, choices) for answer in self._all(payloads)]

    def _payload(self, request: CompletionRequest) -> dict[str, Any]:
        sampling = check_sampling(request.sampling)
        plain = not request.messages
        limit = "max_tokens" if plain else self.config.token_limit_field
        payload: dict[str, Any] = {
            "model": self.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            limit: sampling.max_tokens,
            # Greedy answers are equal, and vLLM refuses to write one twice.
            "n": sampling.n if sampling.temperature > 0 else 1,
            "seed": seeds.derive(request.seed, request.id) >> 32,
        }
        if sampling.stop:
            payload["stop"] = list(sampling.stop)
        if plain:
            return payload | {"prompt": request.prefix}
        payload["messages"] = [{"role": m.role, "content": m.content} for m in request.messages]
        if request.prefix:
            if self.config.prefill == "none":
                raise BadInput(
                    f"{self.name}: expected no prefix (the option prefill=vllm allows one), "
                    f"found {request.prefix!r}"
                )
            payload["messages"].append({"role": "assistant", "content": request.prefix})
            payload |= {"continue_final_message": True, "add_generation_prompt": False}
        return payload

    def _all(self, payloads: Sequence[dict[str, Any]]) -> list[ChatAnswer]:
        """Answer every payload once; equal ones share an answer."""
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
                answers |= _wait_for(self._call_all(open_calls))
            finally:
                self._account.write()
        return [answers[key] for key in keys]

    def _key_of(self, payload: dict[str, Any]) -> str:
        return request_key({"url": self.url, **payload})

    def _held(self, key: str) -> ChatAnswer | None:
        held = self._cache.get(key) if self._cache else None
        return None if held is None else from_dict(ChatAnswer, held)

    async def _call_all(self, open_calls: dict[str, dict[str, Any]]) -> dict[str, ChatAnswer]:
        answers: dict[str, ChatAnswer] = {}
        queue = iter(open_calls.items())
        stop: list[RunFailed] = []
        workers = min(self.config.concurrency, len(open_calls))

        async def work(client: openai.AsyncOpenAI) -> None:
            # A worker that fails for all tells the others, which finish (and keep) what they began.
            for key, payload in queue:
                try:
                    answers[key] = await self._call(client, payload)
                except RunFailed as error:
                    stop.append(error)
                if stop:
                    return

        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    openai.AsyncOpenAI(
                        api_key=self._key or "none", base_url=self.url, timeout=None, max_retries=0
                    )
                )
                for _ in range(math.ceil(workers / WORKERS_PER_CLIENT))
            ]
            await asyncio.gather(*(work(clients[k % len(clients)]) for k in range(workers)))
        if stop:
            raise stop[0]
        return answers

    async def _call(self, client: openai.AsyncOpenAI, payload: dict[str, Any]) -> ChatAnswer:
        """One request; a server that gives fewer samples than asked is asked for the rest."""
        answer = ChatAnswer((), (), Usage())
        while (missing := payload["n"] - len(answer.completions)) > 0:
            rest = {**payload, "n": missing, "seed": payload["seed"] + len(answer.completions)}
            try:
                more = await self._part(client, rest)
            except CallFailed as error:
                # Samples that came are as good as if the others had been asked for apart.
                lost = (failed(str(error)),) * missing
                return replace(answer, completions=(*answer.completions, *lost))
            answer = replace(more, completions=(*answer.completions, *more.completions[:missing]))
        return answer

    async def _part(self, client: openai.AsyncOpenAI, payload: dict[str, Any]) -> ChatAnswer:
        """One call, paid once: each is kept under its own key before the next is made."""
        key = self._key_of(payload)
        held = self._held(key)
        if held is not None:
            return held
        try:
            with self._account.call():
                answer = await chat(client, payload, self.config.patience)
        except Hopeless as error:
            kind = NotThere if error.status == 404 else RunFailed
            raise kind(f"{self._source}: {error}") from None
        except CallFailed as error:
            self._account.pay_for_nothing(error.usage)
            self._dead_calls = self._dead_calls + 1 if error.exhausted else 0
            if self._dead_calls >= self.config.give_up_after:
                raise RunFailed(
                    f"{self._source}: {self._dead_calls} calls in a row failed after "
                    f"{self.config.attempts} attempts each, the last with {error}"
                ) from None
            raise
        self._dead_calls = 0
        self._account.pay(key, answer)
        return answer


@register("engine", "openai")
def openai_engine(rest: str, *, cache_dir: Path | None = None) -> OpenAIEngine:
    """`openai:MODEL[@URL][?concurrency=8&budget_usd=5&...]`: the options are OpenAIConfig's."""
    named = read_options(rest, OpenAIConfig)
    model, _, address = named.name.partition("@http")
    return OpenAIEngine(
        model,
        f"http{address}" if address else DEFAULT_URL,
        config=named.options,
        cache_dir=cache_dir,
    )


def _key_for(url: str) -> str:
    """The key from the environment, for an address that holds none itself.

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


def _choices(answer: ChatAnswer, choices: Sequence[str]) -> tuple[float, ...]:
    if not answer.top_logprobs:
        return (math.nan,) * len(choices)
    mass = dict.fromkeys(choices, 0.0)
    for token, logprob in answer.top_logprobs:
        if token.strip() in mass:
            mass[token.strip()] += math.exp(logprob)
    return tuple(math.log(mass[c]) if mass[c] > 0 else -math.inf for c in choices)


def _wait_for(
    work: Coroutine[Any, Any, dict[str, ChatAnswer]],
) -> dict[str, ChatAnswer]:
    """Run to the end; on a thread of its own where this one already runs a loop (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    found: list[dict[str, ChatAnswer]] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]
