"""OpenAI-compatible endpoint as an engine."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignlab import seeds
from alignlab.errors import BadInput, RunFailed
from alignlab.generation.cache import Spent
from alignlab.generation.endpoint import DEFAULT_URL, Endpoint, EndpointNotFound
from alignlab.generation.endpoint import OpenAIConfig as OpenAIConfig
from alignlab.generation.engines import check_sampling, first_stop
from alignlab.generation.refusals import TOP_LOGPROBS
from alignlab.generation.replies import ChatAnswer
from alignlab.registry import register
from alignlab.specs import read_options
from alignlab.types import Completion, CompletionRequest, Message, Sampling, Usage

_TOKEN_MARKS = " \t\n\r\u2581\u0120\u010a"
"""Blanks around a token, and the marks that tokenizers write for them."""


@dataclass(frozen=True)
class EndpointReport:
    """Result of one small request to an endpoint that holds every field."""

    source: str
    """Model and address."""
    answers: bool
    limits: tuple[str, ...] = ()
    """Departures from OpenAI's API, a sentence each."""
    problem: str = ""
    """Error of an endpoint that does not answer; empty where it does."""

    def __str__(self) -> str:
        if not self.answers:
            return f"{self.source}: does not answer ({self.problem})"
        return f"{self.source}: answers" + "".join(f"; {limit}" for limit in self.limits)


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
        self.model, self.config = model, config or OpenAIConfig()
        self.name = f"openai:{model}"
        self._endpoint = Endpoint(model, url, self.config, cache_dir)

    @property
    def url(self) -> str:
        """Address of the API."""
        return self._endpoint.url

    @property
    def spent(self) -> Spent:
        """Tokens and dollars so far, answers already in the cache included."""
        return self._endpoint.account.spent

    def price(self, usage: Usage) -> float:
        """Return the price of tokens in dollars, at the prices set."""
        return self.config.price(usage).usd

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in the order given.

        At temperature 0 one completion is requested and repeated. A call that fails for good gives
        completions with an error.

        Raises:
            BadInput: a request has a prefix and the endpoint cannot continue one.
            RunFailed: a budget is spent, the key is refused, or the server is dead; answers that
                came before are in the cache.
        """
        answers = self._endpoint.answer([self._payload(request) for request in requests])
        return [
            self._cut(answer.completions, request.sampling.stop)
            * (request.sampling.n // len(answer.completions))
            for answer, request in zip(answers, requests, strict=True)
        ]

    def continues_text(self) -> bool:
        """Request one token of plain text and return True if the endpoint continues it.

        Raises:
            RunFailed: a budget is spent, the key is refused, the server is dead, or every attempt
                failed, which is no answer.
        """
        one = Sampling(temperature=0, top_p=1, max_tokens=1)
        request = CompletionRequest("continues text", (), one, 0, prefix="One, two,")
        dead_calls = self._endpoint.dead_calls
        try:
            ((completion,),) = self.complete([request])
        except EndpointNotFound:
            return False
        if self._endpoint.dead_calls > dead_calls:
            raise RunFailed(
                f"{self._endpoint.source}: expected a token of plain text, found {completion.error}"
            )
        return completion.finish != "error"

    def probe(self) -> EndpointReport:
        """Send one small request that holds every field, and report the refused fields.

        Each refusal costs a further request; the cache and the limits of the run learn from it.
        """
        messages = (Message("system", "You are brief."), Message("user", "Say yes or no."))
        sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=16, n=2, stop=("\n\n",))
        request = CompletionRequest("probe", messages, sampling, 0)
        wanted = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        try:
            (answer,) = self._endpoint.answer([self._payload(request) | wanted])
        except RunFailed as error:
            return EndpointReport(self._endpoint.source, False, problem=str(error))
        if not self._endpoint.has_answered:
            return EndpointReport(self._endpoint.source, False, problem=answer.completions[0].error)
        if not answer.top_logprobs and not self._gives_no_logprobs:
            self._endpoint.remember(self._endpoint.limits.leaving_out("logprobs"))
        return EndpointReport(self._endpoint.source, True, tuple(self._endpoint.limits.sentences()))

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Return the log-probability in nats of each choice as the first token of the answer.

        Read from the endpoint's list of the 20 likeliest tokens (or as many as it gives): -inf for
        a choice that is not among them; NaN for a call that failed. An endpoint without
        log-probabilities gives NaN for all, and after its first answer gets no more calls: judges
        then read whole verdicts from `complete`. Raises as `complete`.
        """
        wanted = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        field = self.config.token_limit_field
        payloads = [
            self._payload(request) | wanted | {field: 1, "n": 1, "temperature": 1.0, "top_p": 1.0}
            for request in requests
        ]
        # The first alone: it tells whether the endpoint gives any.
        answers = [] if self._gives_no_logprobs else self._endpoint.answer(payloads[:1])
        if any(c.finish != "error" and not a.top_logprobs for a in answers for c in a.completions):
            self._endpoint.remember(self._endpoint.limits.leaving_out("logprobs"))
        if not self._gives_no_logprobs:
            answers += self._endpoint.answer(payloads[1:])
        found = [_choices(answer, choices) for answer in answers]
        return found + [(math.nan,) * len(choices)] * (len(requests) - len(found))

    @property
    def _gives_no_logprobs(self) -> bool:
        return "logprobs" in self._endpoint.limits.without

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

    def _cut(
        self, completions: tuple[Completion, ...], stop: tuple[str, ...]
    ) -> tuple[Completion, ...]:
        """Cut texts at stop strings, which the endpoint may refuse."""
        places = [first_stop(c.text, stop) for c in completions]
        return tuple(
            c if place is None else replace(c, text=c.text[:place], finish="stop")
            for c, place in zip(completions, places, strict=True)
        )


@register("engine", "openai")
def openai_engine(rest: str, *, cache_dir: Path | None = None) -> OpenAIEngine:
    """`openai:MODEL[@URL[,URL...]][?concurrency=8&budget_usd=5&...]`: options as in OpenAIConfig.

    Several addresses of one model share its calls.

    Raises:
        BadInput: no model is named, or its address does not start with http.
    """
    named = read_options(rest, OpenAIConfig)
    model, _, address = named.name.partition("@http")
    if not model:
        raise BadInput(f"openai:{rest}: expected a model before the address, found none")
    if not address and "@" in model:
        # OpenAI would get what is meant for another server.
        raise BadInput(
            f"openai:{rest}: expected an address that starts with http:// or https://, "
            f"found {model.partition('@')[2]!r}"
        )
    return OpenAIEngine(
        model,
        f"http{address}" if address else DEFAULT_URL,
        config=named.options,
        cache_dir=cache_dir,
    )


def probe_endpoints(settings: Any) -> list[EndpointReport]:
    """Probe every endpoint whose spec stands anywhere in the settings.

    Args:
        settings: plain values, as `alignlab.records.to_dict` makes them.

    Raises:
        BadInput: a spec that is wrong, or an address that wants a key where there is none.
    """
    found: dict[str, EndpointReport] = {}
    for rest in re.findall(r"\bopenai:([^\s|'\"]+)", repr(settings)):
        engine = openai_engine(rest)
        source = f"{engine.model}@{engine.url}"
        found[source] = found.get(source) or engine.probe()
    return list(found.values())


def _choices(answer: ChatAnswer, choices: Sequence[str]) -> tuple[float, ...]:
    if not answer.top_logprobs:
        return (math.nan,) * len(choices)
    mass = dict.fromkeys(choices, 0.0)
    for token, logprob in answer.top_logprobs:
        if (word := token.strip(_TOKEN_MARKS)) in mass:
            mass[word] += math.exp(logprob)
    return tuple(math.log(mass[c]) if mass[c] > 0 else -math.inf for c in choices)
