"""Benchmarks asked with fakes: questions with answers, and judges who follow a rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from alignlab.evaluation.tasks import BenchmarkInputs, Judge, ModelAnswers, Question
from alignlab.types import (
    Completion,
    CompletionRequest,
    EvalResult,
    Feedback,
    Preference,
    Prompt,
    Response,
    SampledBy,
    Score,
    Unscored,
)


class Told:
    """A model that answers by a rule over the request; None fails."""

    name = "told"

    def __init__(self, rule: Callable[[CompletionRequest], str | None]) -> None:
        self.rule = rule
        self.requests: list[CompletionRequest] = []

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        self.requests += requests
        return [(self._one(r),) for r in requests]

    def _one(self, request: CompletionRequest) -> Completion:
        text = self.rule(request)
        if text is None:
            return Completion("", "error", 0, 0, error="no answer")
        return Completion(text, "stop", 1, 1)


class Weighing(Told):
    """A model that also gives log-probabilities of choices by a rule."""

    def __init__(self, weigh: Callable[[CompletionRequest], tuple[float, ...]]) -> None:
        super().__init__(lambda r: None)
        self.weigh = weigh
        self.choices: list[tuple[str, ...]] = []

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        self.requests += requests
        self.choices.append(tuple(choices))
        return [self.weigh(r) for r in requests]


class Scores:
    """A source of scores by a rule over the response's text; None is unscored."""

    name = "scores"

    def __init__(self, rule: Callable[[str], float | None]) -> None:
        self.rule = rule

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        return [self._one(p, r) for p, several in items for r in several]

    def _one(self, prompt: Prompt, response: Response) -> Feedback:
        value = self.rule(response.text)
        verdict = Unscored("no score") if value is None else Score(value)
        return Feedback(prompt.id, (response.id,), self.name, verdict)


class Pairs:
    """A judge of pairs: the text that scores higher by a rule wins; None is unscored."""

    name = "pairs"

    def __init__(self, rule: Callable[[str], float | None]) -> None:
        self.rule = rule
        self.seen: list[tuple[str, str]] = []

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        return [self._one(*item) for item in items]

    def _one(self, prompt: Prompt, a: Response, b: Response) -> Feedback:
        self.seen.append((a.text, b.text))
        first, second = self.rule(a.text), self.rule(b.text)
        if first is None or second is None:
            verdict: Preference | Unscored = Unscored("no verdict")
        else:
            winner = None if first == second else int(second > first)
            verdict = Preference(winner, (winner, winner))  # type: ignore[arg-type]
        return Feedback(prompt.id, (a.id, b.id), self.name, verdict)


def said(
    model: str, questions: Sequence[Question], *texts: str | tuple[str, ...] | None
) -> ModelAnswers:
    """Answers of a model to the questions in order; None is no answer."""
    turns: dict[str, tuple[Response, ...]] = {}
    for question, text in zip(questions, texts, strict=True):
        if text is not None:
            several = (text,) if isinstance(text, str) else text
            turns[question.id] = tuple(
                Response(f"{question.id}/{model}/{t}", question.id, one, SampledBy(model))
                for t, one in enumerate(several)
            )
    return ModelAnswers(model, turns)


def asked(
    questions: Sequence[Question],
    *answers: ModelAnswers,
    judge: Judge | None = None,
    baseline: ModelAnswers | None = None,
) -> BenchmarkInputs:
    return BenchmarkInputs(tuple(questions), answers, baseline, judge, seed=0)


def figures(rows: Sequence[EvalResult], model: str | None = None) -> dict[str, float | None]:
    """Metric (with its part) -> value."""
    return {
        r.metric + (f" {r.group}" if r.group else ""): r.value
        for r in rows
        if model in (None, r.model)
    }


def jsonl(path: Path, *rows: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
