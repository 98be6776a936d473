"""Prompts, responses and scripted judges for the tests of feedback."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alignlab.generation.scripted import ScriptedEngine
from alignlab.types import CompletionRequest, Message, Prompt, Response, SampledBy


def prompt(key: str = "p", text: str = "What is the capital?") -> Prompt:
    return Prompt(key, (Message("user", text),))


def response(key: str, text: str, of: str = "p") -> Response:
    return Response(key, of, text, SampledBy("m"))


def says(*texts: str | None) -> ScriptedEngine:
    """A judge that gives the texts in turn, sample by sample, to every request."""
    return ScriptedEngine(lambda request, k: texts[k % len(texts)], name="judge")


def by(answer: Callable[[str], str | None]) -> ScriptedEngine:
    """A judge that answers by what it is asked."""
    return ScriptedEngine(lambda request, k: answer(request.messages[-1].content), name="judge")


class Chooser:
    """A choice scorer with a fixed answer; remembers what it was asked."""

    name = "chooser"

    def __init__(self, logprobs: Sequence[float]):
        self.logprobs = tuple(logprobs)
        self.requests: list[CompletionRequest] = []
        self.choices: tuple[str, ...] = ()

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        self.requests += requests
        self.choices = tuple(choices)
        return [self.logprobs] * len(requests)
