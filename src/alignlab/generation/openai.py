"""Any OpenAI-compatible endpoint as an engine: bounded concurrency, retries, cache, budget.

The key comes from the environment variable OPENAI_API_KEY alone and is written nowhere.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import openai

from alignlab import seeds
from alignlab.errors import BadInput, RunFailed
from alignlab.generation.cache import AnswerCache, request_key
from alignlab.generation.http import CallFailed, ChatAnswer, Hopeless, chat
from alignlab.generation.requests import check_sampling, failed
from alignlab.records import from_dict, to_dict
from alignlab.registry import register
from alignlab.specs import read_options
from alignlab.types import Completion, CompletionRequest, Usage

DEFAULT_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
TOP_LOGPROBS = 20
"""The most that the API gives."""


@dataclass(frozen=True)
class OpenAIConfig:
    """How an endpoint is called."""

    concurrency: int = 16
    """Most calls under way at once."""
    timeout_s: float = 120.0
    """Seconds until one attempt is given up."""
    attempts: int = 6
    """Attempts per call, the first included."""
    backoff_s: float = 1.0
    """Seconds that the first wait may last; it doubles, with full jitter, up to a minute."""
    give_up_after: int = 8
    """Calls in a row that exhaust their attempts before the server counts as dead."""
    usd_per_million_prompt: float = 0.0
    """Price of a million prompt tokens, in dollars."""
    usd_per_million_completion: float = 0.0
    """Price of a million completion tokens, in dollars."""
    budget_usd: float | None = None
    """Dollars after which no call is started; counts all that the cache holds of this model."""
    budget_tokens: int | None = None
    """Tokens (prompt and completion) after which no call is started, counted likewise."""
    prefill: Literal["none", "vllm"] = "none"
    """How the endpoint continues a turn that has begun: not at all, or by vLLM's extra fields."""
    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls the limit of new tokens."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts", "give_up_after"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}: expected at least 1, found {getattr(self, name)}")
        priced = self.usd_per_million_prompt > 0 or self.usd_per_million_completion > 0
        if self.budget_usd is not None and not priced:
            raise BadInput("budget_usd: expected prices per million tokens with it, found none")


@dataclass(frozen=True)
class Spent:
    """What an endpoint has cost."""

    usage: Usage
    usd: float


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
        self._source = f"{model}@{self.url}"
        self._cache = AnswerCache(cache_dir / "calls.sqlite") if cache_dir else None
        self._usage = self._cache.usage(self._source) if self._cache else Usage()
        self._dead_calls = 0
        self._key = os.environ.get(KEY_VARIABLE, "")
        if not self._key and urlsplit(self.url).hostname == urlsplit(DEFAULT_URL).hostname:
            raise BadInput(f"{self._source}: expected a key in {KEY_VARIABLE}, found none")

    @property
    def spent(self) -> Spent:
        """Tokens and dollars so far, those of answers that the cache already held included."""
        config, usage = self.config, self._usage
        usd = (
            usage.prompt_tokens * config.usd_per_million_prompt
            + usage.tokens * config.usd_per_million_completion
        ) / 1e6
        return Spent(usage, usd)

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in the order given.

        Raises:
            BadInput: a request has a prefix and the endpoint cannot continue one.
            RunFailed: the budget is spent, the key is refused, or the server is dead; answers
                that came before are in the cache.
        """
        payloads = [self._payload(request) for request in requests]
        answers = self._all(payloads)
        return [
            answer.completions if isinstance(answer, ChatAnswer) else (answer,) * payload["n"]
            for answer, payload in zip(answers, payloads, strict=True)
        ]

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
        payload: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.config.token_limit_field: sampling.max_tokens,
            "n": sampling.n,
            "seed": seeds.derive(request.seed, request.id) >> 32,
        }
        if sampling.stop:
            payload["stop"] = list(sampling.stop)
        if request.prefix:
            if self.config.prefill == "none":
                raise BadInput(
                    f"{self.name}: expected no prefix (the option prefill=vllm allows one), "
                    f"found {request.prefix!r}"
                )
            payload["messages"].append({"role": "assistant", "content": request.prefix})
            payload["extra_body"] = {"continue_final_message": True, "add_generation_prompt": False}
        return payload

    def _all(self, payloads: Sequence[dict[str, Any]]) -> list[ChatAnswer | Completion]:
        """Answer every payload once; equal ones share an answer."""
        keys = [request_key({"url": self.url, **payload}) for payload in payloads]
        answers: dict[str, ChatAnswer | Completion] = {}
        open_calls: dict[str, dict[str, Any]] = {}
        for key, payload in zip(keys, payloads, strict=True):
            held = self._cache.get(key) if self._cache else None
            if held is not None:
                answers[key] = from_dict(ChatAnswer, held)
            else:
                open_calls[key] = payload
        if open_calls:
            answers |= _wait_for(self._call_all(open_calls))
        return [answers[key] for key in keys]

    async def _call_all(
        self, open_calls: dict[str, dict[str, Any]]
    ) -> dict[str, ChatAnswer | Completion]:
        answers: dict[str, ChatAnswer | Completion] = {}
        queue = iter(open_calls.items())
        stop: list[RunFailed] = []
        client = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self.url,
            timeout=self.config.timeout_s,
            max_retries=0,
        )

        async def work(calls: Iterator[tuple[str, dict[str, Any]]]) -> None:
            # A worker that fails for all tells the others, which finish (and keep) what they began.
            for key, payload in calls:
                try:
                    self._check_budget()
                    answers[key] = await self._call(client, key, payload)
                except RunFailed as error:
                    stop.append(error)
                if stop:
                    return

        async with client:
            workers = min(self.config.concurrency, len(open_calls))
            await asyncio.gather(*(work(queue) for _ in range(workers)))
        if stop:
            raise stop[0]
        return answers

    async def _call(
        self, client: openai.AsyncOpenAI, key: str, payload: dict[str, Any]
    ) -> ChatAnswer | Completion:
        """One request; a server that gives fewer samples than asked is asked for the rest."""
        answer = ChatAnswer((), (), Usage())
        try:
            while (missing := payload["n"] - len(answer.completions)) > 0:
                rest = {**payload, "n": missing, "seed": payload["seed"] + len(answer.completions)}
                more = await chat(
                    client, rest, attempts=self.config.attempts, backoff_s=self.config.backoff_s
                )
                self._usage += more.usage
                answer = replace(
                    more,
                    completions=(*answer.completions, *more.completions[:missing]),
                    usage=answer.usage + more.usage,
                )
        except Hopeless as error:
            raise RunFailed(f"{self._source}: {self._hidden(error)}") from error
        except CallFailed as error:
            self._dead_calls = self._dead_calls + 1 if error.exhausted else 0
            if self._dead_calls >= self.config.give_up_after:
                raise RunFailed(
                    f"{self._source}: {self._dead_calls} calls in a row failed after "
                    f"{self.config.attempts} attempts each, the last with {self._hidden(error)}"
                ) from error
            return failed(self._hidden(error))
        self._dead_calls = 0
        if self._cache:
            self._cache.put(key, self._source, to_dict(answer), answer.usage)
        return answer

    def _check_budget(self) -> None:
        spent, config = self.spent, self.config
        tokens = spent.usage.prompt_tokens + spent.usage.tokens
        if config.budget_usd is not None and spent.usd >= config.budget_usd:
            raise RunFailed(
                f"{self._source}: the budget of ${config.budget_usd:g} is spent "
                f"(${spent.usd:.4f}, {spent.usage.calls} calls)"
            )
        if config.budget_tokens is not None and tokens >= config.budget_tokens:
            raise RunFailed(
                f"{self._source}: the budget of {config.budget_tokens} tokens is spent "
                f"({tokens} tokens, {spent.usage.calls} calls)"
            )

    def _hidden(self, error: Exception) -> str:
        """An error's text without the key, which servers like to repeat."""
        return str(error).replace(self._key, "***") if self._key else str(error)


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


def _choices(answer: ChatAnswer | Completion, choices: Sequence[str]) -> tuple[float, ...]:
    if not isinstance(answer, ChatAnswer) or not answer.top_logprobs:
        return (math.nan,) * len(choices)
    mass = dict.fromkeys(choices, 0.0)
    for token, logprob in answer.top_logprobs:
        if token.strip() in mass:
            mass[token.strip()] += math.exp(logprob)
    return tuple(math.log(mass[c]) if mass[c] > 0 else -math.inf for c in choices)


def _wait_for(
    work: Coroutine[Any, Any, dict[str, ChatAnswer | Completion]],
) -> dict[str, ChatAnswer | Completion]:
    """Run to the end; on a thread of its own where this one already runs a loop (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    found: list[dict[str, ChatAnswer | Completion]] = []
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
