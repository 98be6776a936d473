"""Record what a study asks of models, judges and trainings, and answer with stand-ins.

A `RunContext` with a `Recorder` runs a study without loading or asking any model: its run keeps
records in memory, engines return texts of the right number, every response gets a score (falling
within a prompt, so that every prompt makes a pair), trainings return their parent under a new name.
The recorder's list of work then says who is asked for how much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from alignlab.generation import engines
from alignlab.generation.vllm import require_vllm
from alignlab.models.facts import model_facts
from alignlab.protocols import ChoiceScorer, Completer, FeedbackSource
from alignlab.runs import RecordFile, Run, Stage
from alignlab.specs import split
from alignlab.types import (
    Checkpoint,
    Completion,
    CompletionRequest,
    Count,
    Critique,
    Feedback,
    Message,
    Preference,
    Prompt,
    Response,
    SampledBy,
    Score,
    Usage,
)

T = TypeVar("T")

STUDENT = "the study's models"
"""Who is asked where a model that the study trains answers."""

CHARACTERS = 3
"""Characters of text per token, a low estimate for English."""

FORWARD, TRAINING = 2, 8
"""Floating-point operations per parameter and token: of a forward pass, and of a training step
with its backward pass and the reference model's forward pass (arXiv 2001.08361, section 2.1)."""

KINDS = {"responses": "answers", "feedback": "judgements", "made": "refinements"}
"""Name of a stage's record file -> kind of call, where they differ."""


@dataclass(frozen=True)
class Work:
    """Calls, or a training, of one stage."""

    stage: str
    what: str
    by: str
    calls: int
    tokens: int | None = 0
    """Upper bound of tokens generated; None where the part asked decides."""
    read: int = 0
    """Prompt tokens, estimated."""
    operations: float = 0.0
    """Floating-point operations on this machine."""


class Recorder:
    """Makes stand-ins and lists what they are asked for."""

    def __init__(self, chat_template: str | None = None) -> None:
        self.work: list[Work] = []
        self.trained: list[Checkpoint] = []
        """Every model that a training made, in order."""
        self.counts: list[Count] = []
        """What the stages kept and dropped."""
        self._chat_template = chat_template
        self._stages: list[str] = []
        self._what = "calls"
        self._times = 1
        self._number = count()
        self._facts = lru_cache(maxsize=None)(model_facts)

    def engine(self, model: Checkpoint) -> Completer:
        """Return a stand-in for a model of the study."""
        return _Scorer(self, model.name, STUDENT, self.parameters(model.path))

    def completer(self, spec: str) -> Completer:
        """Return a stand-in for a teacher or a judge.

        Raises:
            BadInput: the engine cannot be made as the spec says; no weights are read.
        """
        kind, _, rest = spec.partition(":")
        if kind in ("local", "vllm") and rest:
            if kind == "vllm":
                require_vllm()
            folder = split(rest).head
            return _Scorer(self, folder, spec, self.parameters(folder))
        made = engines.completer(spec)
        return (_Scorer if isinstance(made, ChoiceScorer) else _Engine)(self, made.name, spec, 0)

    def source(self, name: str) -> StandInSource:
        """Return a stand-in for a source of scores that asks no engine."""
        return StandInSource(self, name)

    def parameters(self, path: str) -> int:
        """Return a model's number of parameters, from its small files alone."""
        return self._facts(path, chat_template=self._chat_template).parameters

    def rate(
        self, source: FeedbackSource, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int
    ) -> list[Feedback]:
        """Have a source ask for its feedback, and make every verdict but critiques a score."""
        ranks = {r.id: rank for _, several in items for rank, r in enumerate(several)}
        return [
            f if isinstance(f.verdict, Critique) else replace(f, verdict=_score(ranks, f))
            for f in source.rate(items, seed)
        ]

    def train(self, stage: str, parent: Checkpoint, made: Checkpoint, tokens: int) -> Checkpoint:
        """List a training that reads so many tokens, and return the model that it makes."""
        done = TRAINING * self.parameters(parent.path) * tokens
        self.work.append(Work(stage, "trained", made.name, 0, 0, 0, done))
        self.trained.append(made)
        return made

    def sample_policy(
        self, parent: Checkpoint, prompts: Sequence[Prompt], responses: int, tokens: int
    ) -> list[tuple[Prompt, list[Response]]]:
        """List a batch of rollouts, and return the responses for a reward to score."""
        engine = _Engine(self, "policy", STUDENT, self.parameters(parent.path))
        with self.asking("rollouts"):
            engine.ask(len(prompts) * responses, tokens, sum(map(tokens_of, prompts)))
        return [
            (p, [Response(f"{p.id}/{i}", p.id, self.text(tokens), SampledBy("policy"))
                 for i in range(responses)])
            for p in prompts
        ]  # fmt: skip

    def note(
        self, by: str, calls: int, tokens: int | None, read: int, parameters: int, what: str = ""
    ) -> None:
        """Add calls to the list of work."""
        n, stage = self._times, self._stages[-1] if self._stages else ""
        tokens = None if tokens is None else n * tokens
        done = FORWARD * parameters * (n * read + (tokens or 0))
        self.work.append(Work(stage, what or self._what, by, n * calls, tokens, n * read, done))

    @contextmanager
    def asking(self, what: str, times: int = 1, stage: str = "") -> Iterator[None]:
        """Call what is asked inside by this kind, as often as given, in this stage."""
        before = self._what, self._times
        self._what, self._times = KINDS.get(what, what), self._times * times
        self._stages.append(stage or (self._stages[-1] if self._stages else ""))
        try:
            yield
        finally:
            self._what, self._times = before
            self._stages.pop()

    def new_prompts(self, by: str, n: int, tokens: int) -> list[Prompt]:
        """Return prompts of so many tokens as if someone had written them."""
        return [
            Prompt(f"new-{k}", (Message("user", self.text(tokens)),), source=by) for k in range(n)
        ]

    def text(self, tokens: int) -> str:
        """Return a text of so many tokens, as they are estimated, unlike all others."""
        return f"{next(self._number)} ".ljust(CHARACTERS * tokens, ".")


class RecordingRun(Run):
    """A run whose records are kept in memory; stages may write other files into its folder."""

    def __init__(self, path: Path, recorder: Recorder, scope: tuple[str, ...] = ()) -> None:
        super().__init__(path, scope)
        self.recorder = recorder

    def scope(self, name: str) -> Run:
        """Return a part of the run."""
        return RecordingRun(self.path, self.recorder, (*self.scope_names, name))

    def stage(self, name: str, *, config: Any = None, inputs: Any = None) -> Stage:
        """Open the next stage."""
        self._stages += 1
        folder = self.path.joinpath("stages", *self.scope_names, f"{self._stages:02d}-{name}")
        return _Stage(self, folder, {})

    def add_inputs(self, files: Any) -> None:
        """Record nothing: there is no manifest."""


class _Stage(Stage):
    """A stage that is never done before, in memory."""

    run: RecordingRun

    def __enter__(self) -> Stage:
        self.path.mkdir(parents=True, exist_ok=True)
        self.done = False
        self._open_files: dict[str, _Records[Any]] = {}
        self._asking = self.run.recorder.asking("calls", stage=self.name)
        self._asking.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._asking.__exit__(*error)

    def records(self, name: str, cls: type[T]) -> RecordFile[T]:
        return self._open_files.setdefault(name, _Records(self, f"{name}.jsonl", cls))

    def count(self, counts: Sequence[Count]) -> None:
        self.run.recorder.counts += counts

    def once(self, name: str, *rest: Any, **how: Any) -> list[Any]:
        with self.run.recorder.asking(name):
            return super().once(name, *rest, **how)

    def map(self, name: str, *rest: Any, **how: Any) -> list[Any]:
        with self.run.recorder.asking(name):
            return super().map(name, *rest, **how)


class _Records(RecordFile[T]):
    def __init__(self, stage: Stage, filename: str, cls: type[T]) -> None:
        super().__init__(stage, filename, cls)
        self._held: list[T] = []

    def append(self, unit: str, records: Sequence[T], usage: Usage | None = None) -> None:
        self.units.add(unit)
        self._held += records

    def read(self) -> list[T]:
        return list(self._held)

    def count(self) -> int:
        return len(self._held)


class _Engine:
    """Stands for a model that completes."""

    def __init__(self, recorder: Recorder, name: str, by: str, parameters: int) -> None:
        self.name = name
        self._recorder, self._by, self._parameters = recorder, by, parameters

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        for r in requests:
            self.ask(r.sampling.n, r.sampling.max_tokens, tokens_of(r))
        return [
            tuple(
                Completion(self._recorder.text(r.sampling.max_tokens), "stop", 0, 0)
                for _ in range(r.sampling.n)
            )
            for r in requests
        ]

    def ask(self, n: int, tokens: int, read: int) -> None:
        self._recorder.note(self._by, n, n * tokens, read, self._parameters)


class _Scorer(_Engine):
    """Stands for a model that also gives the log-probabilities of choices."""

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        for r in requests:
            self._recorder.note(self._by, 1, 0, tokens_of(r), self._parameters)
        return [(-math.log(len(choices)),) * len(choices)] * len(requests)


class StandInSource:
    """Stands for a source of feedback that asks no engine."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self.name = name
        self._recorder = recorder

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        responses = [r for _, several in items for r in several]
        self._recorder.note(self.name, len(responses), None, 0, 0, "scores")
        return [Feedback(r.prompt_id, (r.id,), self.name, Score(0.0, (0.0,))) for r in responses]

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        self._recorder.note(self.name, 2 * len(items), None, 0, 0, "comparisons")
        return [Feedback(p.id, (a.id, b.id), self.name, Preference(0)) for p, a, b in items]


def _score(ranks: dict[str, int], feedback: Feedback) -> Score:
    value = -float(ranks[feedback.response_ids[0]])
    return Score(value, (value,))


def tokens_of(asked: Prompt | CompletionRequest) -> int:
    """Estimate the tokens of a prompt's messages and of the text that a completion continues."""
    return characters("".join(m.content for m in asked.messages) + getattr(asked, "prefix", ""))


def characters(text: str) -> int:
    """Estimate the tokens of a text by its characters."""
    return math.ceil(len(text) / CHARACTERS)
