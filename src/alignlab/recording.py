"""Dry-run a study: record its model calls and trainings, and answer with stand-ins.

A `RunContext` with a `Recorder` runs a study without loading or calling any model: records stay in
memory, engines return texts of the requested number and length, every response gets a score
(decreasing within a prompt, so that every prompt yields a pair), trainings return a checkpoint
without training. `Recorder.work` then lists all calls and trainings.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from alignlab.generation import engines
from alignlab.generation.vllm import require_vllm
from alignlab.models.facts import ModelFacts, model_facts
from alignlab.protocols import ChoiceScorer, Completer, FeedbackSource
from alignlab.runs import RecordFile, Run, Stage
from alignlab.specs import split
from alignlab.speed import NOTHING, Compute
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
from alignlab.work import Lengths, Trained, Work, apart

T = TypeVar("T")

STUDENT = "the study's models"
"""Name of the models that the study trains, in lists of calls."""

BATCH = 256
"""Number of samples that the local engine draws at once."""

KINDS = {"responses": "answers", "feedback": "judgements", "made": "refinements"}
"""Name of a record file -> kind of call, where they differ."""


class Recorder:
    """Factory of stand-ins that lists their calls."""

    def __init__(
        self,
        chat_template: str | None = None,
        lengths: Lengths | None = None,
        known: dict[Any, Any] | None = None,
    ) -> None:
        """Set up the recorder.

        Args:
            known: results of `cached`, for several recorders of one study.
        """
        self._known = {} if known is None else known
        self.work: list[Work] = []
        self.trained: list[Checkpoint] = []
        """Trained models, in order."""
        self.loops: dict[Checkpoint, Any] = {}
        """Trained model -> settings of its training, a `TrainConfig`."""
        self.sizes: list[Trained] = []
        """Sizes of the trainings."""
        self.counts: list[Count] = []
        """Counts of the stages' records."""
        self.branches: list[list[str]] = []
        """Names of the branches of each group that shares the processes, in order."""
        self.examples: list[tuple[str, str]] = []
        """Prompts and responses of the first training, a few dozen."""
        self.lengths = lengths or Lengths()
        self._chat_template = chat_template
        self._stages: list[str] = []
        self._what = "calls"
        self._times = 1.0
        self._branch = ""
        self._number = count()
        self._facts = lru_cache(maxsize=None)(model_facts)

    def cached(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function of hashable arguments, or return what it returned before."""
        key = (function, *arguments)
        if key not in self._known:
            self._known[key] = function(*arguments)
        found: T = self._known[key]
        return found

    def engine(self, model: Checkpoint) -> Completer:
        """Return a stand-in for a model of the study."""
        return _Scorer(self, model.name, STUDENT, model.path)

    def completer(self, spec: str) -> Completer:
        """Return a stand-in for a teacher or a judge; no weights are read.

        Raises:
            BadInput: the spec is invalid.
        """
        kind, _, rest = spec.partition(":")
        if kind in ("local", "vllm") and rest:
            if kind == "vllm":
                require_vllm()
            folder = split(rest).head
            self.parameters(folder)  # refuses a folder without a model
            return _Scorer(self, folder, spec, folder if kind == "local" else "")
        engine = engines.completer(spec)
        stand_in = _Scorer if isinstance(engine, ChoiceScorer) else _Engine
        return stand_in(self, engine.name, spec, "")

    def source(self, name: str) -> StandInSource:
        """Return a stand-in for a feedback source that calls no engine."""
        return StandInSource(self, name)

    def parameters(self, path: str) -> int:
        """Return a model's number of parameters, from its config and weight headers."""
        return self.facts(path).parameters

    def facts(self, path: str) -> ModelFacts:
        """Return a model's shape, from its config and weight headers."""
        return self._facts(path, chat_template=self._chat_template)

    def rate(
        self, source: FeedbackSource, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int
    ) -> list[Feedback]:
        """Record the calls of a feedback source; every verdict but critiques becomes a score."""
        ranks = {r.id: rank for _, several in items for rank, r in enumerate(several)}
        return [
            f if isinstance(f.verdict, Critique) else replace(f, verdict=_score(ranks, f))
            for f in source.rate(items, seed)
        ]

    def train(self, stage: str, parent: Checkpoint, made: Checkpoint, size: Trained) -> Checkpoint:
        """Record a training and return the trained model `made`."""
        compute = Compute(size.reference, 0, 0, size.tokens, size.steps, 2)
        work = Work(stage, "trained", made.name, 0, 0, 0, parent.path, compute, self._branch)
        self.work.append(work)
        self.trained.append(made)
        self.loops[made] = size.loop
        self.sizes.append(size)
        return made

    def sample_policy(
        self, parent: Checkpoint, prompts: Sequence[Prompt], responses: int, tokens: int
    ) -> list[tuple[Prompt, list[Response]]]:
        """Record a batch of rollouts and return the responses to score."""
        engine = _Engine(self, "policy", STUDENT, parent.path, loads=0)
        with self.asking("rollouts"):
            engine.ask(len(prompts) * responses, tokens, sum(map(self.tokens_of, prompts)))
            drawn = self.lengths.drawn("rollouts", tokens)
        return [
            (p, [Response(f"{p.id}/{i}", p.id, self.text(drawn), SampledBy("policy"))
                 for i in range(responses)])
            for p in prompts
        ]  # fmt: skip

    def note(
        self,
        by: str,
        calls: int,
        tokens: int | None,
        read: int,
        *,
        what: str = "",
        model: str = "",
        compute: Compute = NOTHING,
    ) -> None:
        """Add calls to the list of work."""
        n, stage = self._times, self._stages[-1] if self._stages else ""
        tokens = None if tokens is None else round(n * tokens)
        self.work.append(
            Work(
                stage,
                what or self._what,
                by,
                round(n * calls),
                tokens,
                round(n * read),
                model,
                compute.times(n),
                self._branch,
            )
        )

    @property
    def what(self) -> str:
        """Kind of the calls that are recorded now."""
        return self._what

    @contextmanager
    def in_branch(self, group: int, name: str) -> Iterator[None]:
        """Record work within the block as that of a branch; a branch inside another is its part."""
        before = self._branch
        self._branch = before or f"{group}/{name}"
        try:
            yield
        finally:
            self._branch = before

    @contextmanager
    def asking(self, what: str, times: float = 1, stage: str = "") -> Iterator[None]:
        """Record calls within the block as `what`, multiplied by `times`, in a stage."""
        before = self._what, self._times
        self._what, self._times = KINDS.get(what, what), self._times * times
        self._stages.append(stage or (self._stages[-1] if self._stages else ""))
        try:
            yield
        finally:
            self._what, self._times = before
            self._stages.pop()

    def new_prompts(self, by: str, n: int, tokens: float) -> list[Prompt]:
        """Return `n` stand-in prompts of `tokens` tokens each."""
        return [
            Prompt(f"new-{k}", (Message("user", self.text(tokens)),), source=by) for k in range(n)
        ]

    def text(self, tokens: float) -> str:
        """Return a unique text of about `tokens` tokens."""
        return f"{next(self._number)} ".ljust(math.ceil(self.lengths.characters * tokens), ".")

    def tokens_of(self, asked: Prompt | CompletionRequest) -> int:
        """Estimate the tokens of a prompt in its template, the prefix of a request included."""
        text = "".join(m.content for m in asked.messages) + getattr(asked, "prefix", "")
        return self.tokens(text) + math.ceil(self.lengths.template)

    def tokens(self, text: str) -> int:
        """Estimate the number of tokens of a text from its characters."""
        return math.ceil(len(text) / self.lengths.characters)


def is_stand_in(text: str) -> bool:
    """Return True for a text of `Recorder.text`, whose length is a guess."""
    return re.fullmatch(r"\d+ \.*", text) is not None


class RecordingRun(Run):
    """Run with records in memory; stages may write other files into its folder."""

    def __init__(self, path: Path, recorder: Recorder, scope: tuple[str, ...] = ()) -> None:
        super().__init__(path, scope)
        self.recorder = recorder

    def scope(self, name: str) -> Run:
        """Return a scope of the run."""
        return RecordingRun(self.path, self.recorder, (*self.scope_names, name))

    def stage(self, name: str, *, config: Any = None, inputs: Any = None) -> Stage:
        """Open the next stage."""
        self._stages += 1
        folder = self.stages_folder / f"{self._stages:02d}-{name}"
        return _Stage(self, folder, {})

    def add_inputs(self, files: Any) -> None:
        """Do nothing: a recording run has no manifest."""


class _Stage(Stage):
    """Stage with records in memory, never finished before."""

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
        self._records: list[T] = []

    def append(self, unit: str, records: Sequence[T], usage: Usage | None = None) -> None:
        self.units.add(unit)
        self._records += records

    def read(self) -> list[T]:
        return list(self._records)

    def count(self) -> int:
        return len(self._records)


class _Engine:
    """Stand-in for a completer."""

    def __init__(self, recorder: Recorder, name: str, by: str, folder: str, loads: int = 1) -> None:
        self.name = name
        self._recorder, self._by, self._folder = recorder, by, folder
        self._loads = loads

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        kinds = Counter((r.sampling.n, r.sampling.max_tokens) for r in requests)
        for (n, most), several in kinds.items():
            read = sum(
                self._recorder.tokens_of(r)
                for r in requests
                if (r.sampling.n, r.sampling.max_tokens) == (n, most)
            )
            self.ask(n * several, most, read)
        return [
            tuple(
                Completion(self._text(r.sampling.max_tokens), "stop", 0, 0)
                for _ in range(r.sampling.n)
            )
            for r in requests
        ]

    def ask(self, rows: int, most: int, read: int) -> None:
        """Record replies of up to `most` tokens each, `rows` in all."""
        drawn = self._recorder.lengths.drawn(self._recorder.what, most)
        # A batch ends with its longest reply.
        steps = math.ceil(rows / BATCH) * min(most, 2 * drawn)
        self._note(rows, rows * most, read, Compute(read, steps, rows * drawn))

    def _note(self, calls: int, tokens: int, read: int, compute: Compute) -> None:
        if not self._folder:
            self._recorder.note(self._by, calls, tokens, read)
            return
        compute = replace(compute, load=self._loads)
        self._loads = 0
        self._recorder.note(self._by, calls, tokens, read, model=self._folder, compute=compute)

    def _text(self, most: int) -> str:
        drawn = self._recorder.lengths.drawn(self._recorder.what, most)
        if self._recorder.what == "judgements":  # equal texts are parsed once
            return "0 ".ljust(math.ceil(self._recorder.lengths.characters * drawn), ".")
        return self._recorder.text(drawn)


class _Scorer(_Engine):
    """Stand-in for a completer that also scores choices."""

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        asked = sum(map(self._recorder.tokens_of, requests))
        texts = ["".join(m.content for m in r.messages) + r.prefix for r in requests]
        read = self._recorder.lengths.template + sum(map(self._recorder.tokens, apart(texts)))
        self._note(len(requests), 0, asked, Compute(read))
        return [(-math.log(len(choices)),) * len(choices)] * len(requests)


class StandInSource:
    """Stand-in for a feedback source and pair judge that calls no engine."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self.name, self._recorder = name, recorder

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Record one score per response; all scores are 0."""
        responses = [r for _, several in items for r in several]
        self._recorder.note(self.name, len(responses), None, 0, what="scores")
        return [Feedback(r.prompt_id, (r.id,), self.name, Score(0.0, (0.0,))) for r in responses]

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Record two comparisons per item; the first response wins."""
        self._recorder.note(self.name, 2 * len(items), None, 0, what="comparisons")
        return [Feedback(p.id, (a.id, b.id), self.name, Preference(0)) for p, a, b in items]


def _score(ranks: dict[str, int], feedback: Feedback) -> Score:
    value = -float(ranks[feedback.response_ids[0]])
    return Score(value, (value,))
