"""Collect the entrants of a benchmark: models by spec and files of outputs, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alignlab import registry
from alignlab.at_once import at_once
from alignlab.context import RunContext, resolve_model
from alignlab.errors import BadInput
from alignlab.evaluation.outputs import given_baseline, read_outputs
from alignlab.evaluation.tasks import ModelAnswers, Needs, Question, ask_question
from alignlab.protocols import Completer
from alignlab.records import fingerprint
from alignlab.runs import slug
from alignlab.types import CompletionRequest, Count, Response, SampledBy, Sampling

ANSWER_FILES = {".csv", ".gz", ".json", ".jsonl", ".parquet", ".tsv"}
"""Endings of files of answers, which no model has."""
_NAMED = re.compile(r"(?P<name>[^=:/?]+)=(?P<spec>.+)")


@dataclass(frozen=True)
class Entrant:
    """Model under its name in the figures."""

    name: str
    spec: str
    make: Callable[[], Completer]
    """Builds the engine on first use."""
    folder: str = ""
    """Folder or hub id, if the model runs on this machine."""


def entrant(context: RunContext, spec: str) -> Entrant:
    """Parse `[NAME=]SPEC` of a model: a folder, a hub id, or an engine (openai:MODEL@URL, ...)."""
    named = _NAMED.fullmatch(spec)
    given, rest = (named["name"], named["spec"]) if named else ("", spec)
    head, colon, _ = rest.partition(":")
    if colon and head in registry.names("model"):
        try:
            checkpoint = resolve_model(rest, given or rest)
        except BadInput as error:
            # The name may be that of an engine of the same package.
            if head not in registry.names("engine"):
                raise
            try:
                context.completer(rest)
            except BadInput:
                raise error from None
        else:
            return Entrant(
                checkpoint.name, rest, lambda: context.engine(checkpoint), checkpoint.path
            )
    if colon and head in registry.names("engine"):
        name = given or re.split(r"[?@]", rest)[0]
        return Entrant(name, rest, lambda: context.completer(rest))
    if Path(rest).suffix.lower() in ANSWER_FILES and not Path(rest).exists():
        raise BadInput(f"{rest}: expected a file of answers or a model, found no such file")
    checkpoint = resolve_model(rest, given or Path(rest).name or rest)
    return Entrant(checkpoint.name, rest, lambda: context.engine(checkpoint), checkpoint.path)


def answer(
    context: RunContext,
    model: Entrant,
    questions: Sequence[Question],
    sampling: Sampling,
    chunk: int,
) -> ModelAnswers:
    """Answer every turn of every question after the model's own answers to earlier turns.

    Random draws depend on the seed and the question alone, so that models share them.
    """
    given: dict[str, tuple[Response, ...]] = {q.id: () for q in questions}
    for turn in range(max(1 + len(q.follow_ups) for q in questions)):
        open_ = [q for q in questions if len(q.follow_ups) >= turn and len(given[q.id]) == turn]
        for response in _turn(context, model, open_, given, sampling, turn, chunk):
            given[response.prompt_id] += (response,)
    return ModelAnswers(model.name, {key: turns for key, turns in given.items() if turns})


def _turn(
    context: RunContext,
    model: Entrant,
    questions: Sequence[Question],
    given: dict[str, tuple[Response, ...]],
    sampling: Sampling,
    turn: int,
    chunk: int,
) -> list[Response]:
    """Return the answers to one turn; failed ones are counted, not written."""
    seed = context.seed_for("answers", turn)
    requests = [
        CompletionRequest(q.id, ask_question(q, given[q.id]), _sampling(q, sampling), seed)
        for q in questions
    ]
    name = f"answer-{slug(model.name)}" + (f"-turn-{turn + 1}" if turn else "")
    inputs = {"by": model.spec, "asked": fingerprint(requests)}
    engine = cache(model.make)  # made when the first chunk is asked

    with context.run.stage(name, config=sampling, inputs=inputs) as stage:
        found = stage.map(
            "responses",
            Response,
            requests,
            lambda some: _complete(engine(), model.name, some, turn),
            chunk=chunk,
            title=context.title(f"{model.name} answers"),
            at_once=lambda: at_once(engine()),
        )
        if not stage.done:
            lost = len(requests) - len(found)
            dropped = {"failed": lost} if lost else {}
            stage.count([Count(stage.name, "responses", len(found), dropped)])
        return found


def _complete(
    completer: Completer, name: str, requests: Sequence[CompletionRequest], turn: int
) -> list[Response]:
    completions = [several[0] for several in completer.complete(requests)]
    return [
        Response(
            id=f"{request.id}/{name}/{turn}",
            prompt_id=request.id,
            text=completion.text,
            sampler=SampledBy(name, request.sampling, request.seed),
            tokens=completion.tokens,
            finish=completion.finish,
        )
        for request, completion in zip(requests, completions, strict=True)
        if completion.finish != "error"
    ]


def _sampling(question: Question, sampling: Sampling) -> Sampling:
    if question.temperature is None:
        return sampling
    return Sampling(question.temperature, sampling.top_p, sampling.max_tokens)


@dataclass(frozen=True)
class Entrants:
    """Entrants of a benchmark: models, files of outputs, and the baseline."""

    models: tuple[Entrant, ...] = ()
    outputs: tuple[str, ...] = ()
    """Files of outputs, each `[NAME=]FILE`."""
    baseline: str = ""
    """File of outputs or model; empty uses the data's own baseline."""


def gather(
    context: RunContext,
    field: Entrants,
    needs: Needs,
    questions: Sequence[Question],
    sampling: Sampling,
    chunk: int,
) -> tuple[list[ModelAnswers], ModelAnswers | None]:
    """Return the answers of every entrant, and the baseline's separately.

    Raises:
        BadInput: a baseline is needed and there is none, or two share a name.
    """
    found = [read_given(spec, questions) for spec in field.outputs]
    against = None if needs.baseline == "none" else _baseline(context, field, questions)
    if against is None and needs.baseline == "needed":
        raise BadInput(
            "--baseline is missing: a file of answers or a model that the others are "
            "compared with (the data holds no baseline's answers)"
        )
    _refuse_equal_names([*found, *field.models, *([against] if against else [])])
    baseline = (
        answer(context, against, questions, sampling, chunk)
        if isinstance(against, Entrant)
        else against
    )
    found += [answer(context, model, questions, sampling, chunk) for model in field.models]
    found = [answers.without_thoughts() for answers in found]
    return found, baseline and baseline.without_thoughts()


def _refuse_equal_names(entrants: Sequence[Entrant | ModelAnswers]) -> None:
    """Refuse two entrants of one name, before any model answers.

    Raises:
        BadInput: a name occurs twice.
    """
    names = [e.name if isinstance(e, Entrant) else e.model for e in entrants]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"model {twice!r}: expected different names, found two; say NAME=SPEC")


def _baseline(
    context: RunContext, field: Entrants, questions: Sequence[Question]
) -> Entrant | ModelAnswers | None:
    """Return the baseline's answers, or the model that is to give them."""
    if not field.baseline:
        return given_baseline(questions, "the data's baseline")
    if is_answer_file(field.baseline):
        return read_given(field.baseline, questions)
    return entrant(context, field.baseline)


def is_answer_file(spec: str) -> bool:
    """Return whether a spec, `[NAME=]SPEC`, names a file of outputs rather than a model."""
    named = _NAMED.fullmatch(spec)
    files = [Path(spec), *([Path(named["spec"])] if named else [])]
    return any(file.is_file() and file.suffix.lower() != ".gguf" for file in files)


def read_given(spec: str, questions: Sequence[Question]) -> ModelAnswers:
    """Read the answers in a file, `[NAME=]FILE`."""
    named = None if Path(spec).exists() else _NAMED.fullmatch(spec)
    path = Path(named["spec"] if named else spec)
    return read_outputs(path, questions, named["name"] if named else None)
