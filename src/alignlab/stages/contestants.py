"""Contestants: models by spec, and answers that were given before, under the names of a report."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignlab import progress, registry
from alignlab.errors import BadInput
from alignlab.evaluation.outputs import given_baseline, read_outputs
from alignlab.evaluation.tasks import ModelAnswers, Needs, Question, ask_question
from alignlab.protocols import Completer
from alignlab.records import fingerprint
from alignlab.stages import meter
from alignlab.stages.lab import Lab, chunks, resolve_model
from alignlab.stages.train import slug
from alignlab.types import CompletionRequest, Count, Response, SampledBy, Sampling

_NAMED = re.compile(r"(?P<name>[^=:/?]+)=(?P<spec>.+)")


@dataclass(frozen=True)
class Contestant:
    """A model under the name that the figures call it."""

    name: str
    spec: str
    make: Callable[[], Completer]
    """Makes the engine, when it is first needed."""
    folder: str = ""
    """Folder or hub id, where it is a model on this machine."""


def contestant(lab: Lab, spec: str) -> Contestant:
    """A model by `[NAME=]SPEC`: a folder, a hub id, or an engine (openai:MODEL@URL, ...)."""
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
                lab.completer(rest)
            except BadInput:
                raise error from None
        else:
            return Contestant(
                checkpoint.name, rest, lambda: lab.engine(checkpoint), checkpoint.path
            )
    if colon and head in registry.names("engine"):
        name = given or re.split(r"[?@]", rest)[0]
        return Contestant(name, rest, lambda: lab.completer(rest))
    checkpoint = resolve_model(rest, given or Path(rest).name or rest)
    return Contestant(checkpoint.name, rest, lambda: lab.engine(checkpoint), checkpoint.path)


def answer(
    lab: Lab,
    model: Contestant,
    questions: Sequence[Question],
    sampling: Sampling,
    chunk: int,
) -> ModelAnswers:
    """Every turn of every question, asked after the model's own answers to the turns before.

    Random draws are decided by the seed and the question, so that models share them.
    """
    given: dict[str, tuple[Response, ...]] = {q.id: () for q in questions}
    for turn in range(max(1 + len(q.follow_ups) for q in questions)):
        open_ = [q for q in questions if len(q.follow_ups) >= turn and len(given[q.id]) == turn]
        for response in _turn(lab, model, open_, given, sampling, turn, chunk):
            given[response.prompt_id] += (response,)
    whole = {q.id: given[q.id] for q in questions if len(given[q.id]) == 1 + len(q.follow_ups)}
    return ModelAnswers(model.name, whole)


def _turn(
    lab: Lab,
    model: Contestant,
    questions: Sequence[Question],
    given: dict[str, tuple[Response, ...]],
    sampling: Sampling,
    turn: int,
    chunk: int,
) -> list[Response]:
    """The answers to one turn; those that failed are counted, not written."""
    seed = lab.seed_for("answers", turn)
    requests = [
        CompletionRequest(q.id, ask_question(q, given[q.id]), _sampling(q, sampling), seed)
        for q in questions
    ]
    name = f"answer-{slug(model.name)}" + (f"-turn-{turn + 1}" if turn else "")
    inputs = {"by": model.spec, "asked": fingerprint(requests)}
    with lab.run.stage(name, config=sampling, inputs=inputs) as stage:
        file = stage.records("responses", Response)
        parts = list(enumerate(chunks(requests, chunk)))
        todo = [part for part in parts if str(part[0]) not in file.units]
        if todo:
            completer = model.make()
            with progress.task(lab.title(f"{model.name} answers"), len(requests)) as bar:
                bar.advance(len(requests) - sum(len(some) for _, some in todo))
                for number, some in todo:
                    before = meter.mark()
                    responses = _complete(completer, model.name, some, turn)
                    file.append(str(number), responses, meter.since(before))
                    bar.advance(len(some))
        found = file.read()
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
class Field:
    """Who takes part: models that answer, files of answers, and the baseline."""

    models: tuple[Contestant, ...] = ()
    outputs: tuple[str, ...] = ()
    """Files, each `[NAME=]FILE`."""
    baseline: str = ""
    """A file of answers or a model; empty takes the data's own."""


def gather(
    lab: Lab,
    field: Field,
    needs: Needs,
    questions: Sequence[Question],
    sampling: Sampling,
    chunk: int,
) -> tuple[list[ModelAnswers], ModelAnswers | None]:
    """Everyone's answers, the baseline's apart.

    Raises:
        BadInput: a baseline is needed and there is none, or two share a name.
    """
    found = [read_given(spec, questions) for spec in field.outputs]
    baseline = None
    if needs.baseline != "none":
        baseline = _baseline(lab, field, questions, sampling, chunk)
        if baseline is None and needs.baseline == "needed":
            raise BadInput(
                "--baseline is missing: a file of answers or a model that the others are "
                "compared with (the data holds no baseline's answers)"
            )
    found += [answer(lab, model, questions, sampling, chunk) for model in field.models]
    found = [answers.without_thoughts() for answers in found]
    baseline = baseline and baseline.without_thoughts()
    names = [a.model for a in (*found, *((baseline,) if baseline else ()))]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"model {twice!r}: expected different names, found two; say NAME=SPEC")
    return found, baseline


def _baseline(
    lab: Lab, field: Field, questions: Sequence[Question], sampling: Sampling, chunk: int
) -> ModelAnswers | None:
    if not field.baseline:
        return given_baseline(questions, "the data's baseline")
    if is_answer_file(field.baseline):
        return read_given(field.baseline, questions)
    return answer(lab, contestant(lab, field.baseline), questions, sampling, chunk)


def is_answer_file(spec: str) -> bool:
    """Return whether a spec, `[NAME=]SPEC`, names a file of answers rather than a model."""
    named = _NAMED.fullmatch(spec)
    return Path(spec).is_file() or bool(named and Path(named["spec"]).is_file())


def read_given(spec: str, questions: Sequence[Question]) -> ModelAnswers:
    """The answers in a file, `[NAME=]FILE`."""
    named = None if Path(spec).exists() else _NAMED.fullmatch(spec)
    path = Path(named["spec"] if named else spec)
    return read_outputs(path, questions, named["name"] if named else None)
