"""Declaration of a benchmark that runs on models: its needs, questions and measurement.

A benchmark is a frozen dataclass (its fields are its options) with a class attribute `needs`, a
method `questions` and a method `measure`. The run around it answers the questions, provides a judge
with cached answers (so that a killed run repeats no call), and writes the report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

from alignlab import registry
from alignlab.errors import BadInput
from alignlab.evaluation.result_rows import Subject
from alignlab.protocols import Completer, FeedbackSource, PairJudge
from alignlab.turns import strip_markers, strip_thoughts
from alignlab.types import (
    Corpus,
    EvalResult,
    Feedback,
    Message,
    Preference,
    Prompt,
    Response,
    Sampling,
    Score,
)

JudgeKind = Literal["model", "pairs", "scores"]
"""Kinds of judge: a model prompted by the benchmark, a judge of pairs, a source of scores."""
Judge = Completer | FeedbackSource | PairJudge
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_tokens=1024)


@dataclass(frozen=True)
class Needs:
    """Data, judge and models that a benchmark needs."""

    data: str
    """Sentence on --data and where to get it, shown where it is absent; empty needs none."""
    corpus: bool = False
    """Flag that --data is read by one of the formats of `alignlab list data`."""
    judges: tuple[JudgeKind, ...] = ()
    """Kinds of judge that it accepts, the preferred one first; empty accepts none."""
    sources: tuple[str, ...] = ()
    """Feedback sources that it accepts by name, where it needs more than a score; empty accepts
    all."""
    scores: str = ""
    """Scores that these must give, in words."""
    judge_optional: bool = False
    """Flag that the figures do not come from a judge; one that is given adds some."""
    models: Literal["needed", "allowed", "none", "itself"] = "needed"
    """Models that answer; "none": the judge itself is measured; "itself": the benchmark runs the
    models, given by folder, in its own way."""
    baseline: Literal["needed", "allowed", "none"] = "none"
    """Baseline that the models' answers are compared with; the data may hold it."""
    turns: int = 1
    """Most user turns of a question."""
    sampling: Sampling = GREEDY
    """Sampling of answers unless the settings say otherwise."""


@dataclass(frozen=True)
class Question:
    """Item of a benchmark."""

    prompt: Prompt
    """First turn; its source ends in the item's part (`mt_bench/writing`)."""
    follow_ups: tuple[str, ...] = ()
    """Later user turns, each asked after the answer to the turn before."""
    references: tuple[str, ...] = ()
    """Good answers: one per turn, or several to a single turn."""
    baseline: str | None = None
    """Answer of the baseline, where the data holds one."""
    temperature: float | None = None
    """Sampling temperature of this question, where the benchmark fixes one."""
    candidates: tuple[str, ...] = ()
    """Answers in the data that the judge scores, the good ones first."""
    good: int = 0
    """Number of good answers among the candidates."""
    repeats: str = ""
    """Id of the question that is asked several times, where this is one of the times."""

    @property
    def id(self) -> str:
        """Id of the prompt."""
        return self.prompt.id

    @property
    def part(self) -> str:
        """Return the item's part of the benchmark; empty where it has none."""
        return self.prompt.source.partition("/")[2]


@dataclass(frozen=True)
class ModelAnswers:
    """Answers of one model."""

    model: str
    turns: Mapping[str, tuple[Response, ...]]
    """Question id -> its answers, up to the first turn without one; unanswered ones are missing."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows of a file of answers that were left out."""
    thoughts: int = 0
    """Number of answers whose thoughts were removed."""
    markers: int = 0
    """Number of answers without the template's tokens that stood around them."""

    def without_thoughts(self) -> ModelAnswers:
        """Return the answers without their thoughts and the template's tokens around them."""
        bare, markers = _changed(self.turns, strip_markers)
        turns, thoughts = _changed(bare, strip_thoughts)
        return replace(self, turns=turns, thoughts=thoughts, markers=markers)

    def last(self, question: Question) -> Response | None:
        """Return the answer to the last turn; None where the model gave none."""
        found = self.turns.get(question.id, ())
        return found[-1] if len(found) == 1 + len(question.follow_ups) else None


def _changed(
    turns: Mapping[str, tuple[Response, ...]], rule: Callable[[str], str]
) -> tuple[dict[str, tuple[Response, ...]], int]:
    """Apply a rule to every answer's text, and count the questions whose answers changed."""
    found = {
        key: tuple(replace(r, text=rule(r.text)) for r in several) for key, several in turns.items()
    }
    return found, sum(found[key] != several for key, several in turns.items())


@dataclass(frozen=True)
class BenchmarkInputs:
    """Inputs of a benchmark's measurement."""

    questions: tuple[Question, ...]
    answers: tuple[ModelAnswers, ...]
    baseline: ModelAnswers | None
    judge: Judge | None
    seed: int
    corpus: Corpus | None = None
    """Data read by a format, where `needs.corpus` is set."""
    models: tuple[tuple[str, str], ...] = ()
    """Name and folder of each model, where the benchmark runs them itself."""
    cache: Path | None = None
    """Folder in which such a benchmark caches its calls."""

    @property
    def prompts(self) -> dict[str, Prompt]:
        """Return the questions' first turns by id."""
        return {q.id: q.prompt for q in self.questions}

    @property
    def everyone(self) -> tuple[ModelAnswers, ...]:
        """Return the models' answers, the baseline's last."""
        return (*self.answers, *((self.baseline,) if self.baseline else ()))

    def by_model(self) -> list[tuple[ModelAnswers, list[tuple[Question, tuple[Response, ...]]]]]:
        """List every model with the questions that it answered."""
        return [
            (a, [(q, a.turns[q.id]) for q in self.questions if q.id in a.turns])
            for a in self.answers
        ]

    def unanswered(self, answers: ModelAnswers) -> int:
        """Count the questions that a model did not answer; they are unscored."""
        return sum(q.id not in answers.turns for q in self.questions)


@dataclass(frozen=True)
class Findings:
    """Rows and judgements of a benchmark."""

    rows: tuple[EvalResult, ...]
    said: tuple[Feedback, ...] = ()
    """Feedback on every response, for the examples; `response_ids[0]` is the judged one."""

    def __add__(self, other: Findings) -> Findings:
        return Findings(self.rows + other.rows, self.said + other.said)


@runtime_checkable
class BenchmarkTask(Protocol):
    """Benchmark that a run can be made of."""

    needs: Any
    """`Needs` of the benchmark; a class attribute."""

    def questions(self, data: Any) -> list[Question]:
        """Read the questions from a `Path`, or from a `Corpus` where `needs.corpus` is set."""
        ...

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Judge the answers and build rows from the judgements."""
        ...


def value_of(feedback: Feedback) -> float | None:
    """Return the verdict's value for the judged response (index 0); None is unscored."""
    verdict = feedback.verdict
    if isinstance(verdict, Score):
        return verdict.value
    if isinstance(verdict, Preference):
        return 0.5 if verdict.winner is None else float(verdict.winner == 0)
    return None


def ask_question(question: Question, responses: Sequence[Response]) -> tuple[Message, ...]:
    """Build the conversation up to the user turn that follows the answers given."""
    messages = list(question.prompt.messages)
    for response, follow_up in zip(responses, question.follow_ups, strict=False):
        messages += [Message("assistant", response.text), Message("user", follow_up)]
    return tuple(messages)


def model_judge(inputs: BenchmarkInputs) -> Completer:
    """Return the judge as a model that the benchmark prompts."""
    return cast(Completer, inputs.judge)


def score_judge(inputs: BenchmarkInputs) -> FeedbackSource:
    """Return the judge as a source of scores."""
    return cast(FeedbackSource, inputs.judge)


def refuse_source(benchmark: str, needs: Needs, judge: str) -> None:
    """Refuse a judge, by spec or name, that is none of the sources that a benchmark accepts.

    Models pass where the benchmark prompts one.

    Raises:
        BadInput: it is none of them.
    """
    head = re.split("[:,]", judge)[0]
    if not judge or not needs.sources or head in needs.sources:
        return
    if "model" not in needs.judges or head not in registry.names("engine"):
        accepted = " or ".join(f"{name}:..." for name in needs.sources)
        raise BadInput(f"{benchmark}: expected {needs.scores} ({accepted}), found {judge}")


def probability(benchmark: str, needs: Needs, feedback: Feedback) -> float | None:
    """Return a score that must lie between 0 and 1; None is unscored.

    Raises:
        BadInput: it does not.
    """
    value = value_of(feedback)
    if value is not None and not 0 <= value <= 1:
        raise BadInput(
            f"{benchmark}: expected {needs.scores}, found {value:g} of {feedback.source}"
        )
    return value


def pair_judge(inputs: BenchmarkInputs) -> PairJudge:
    """Return the judge as a judge of pairs."""
    return cast(PairJudge, inputs.judge)


def asks_model(inputs: BenchmarkInputs) -> bool:
    """Return True if the judge is a model that the benchmark prompts."""
    return hasattr(inputs.judge, "complete")


def subject(inputs: BenchmarkInputs, model: str, benchmark: str) -> Subject:
    """Return the subject of a model's rows."""
    against = inputs.baseline.model if inputs.baseline else None
    return Subject(model, benchmark, against=against)
