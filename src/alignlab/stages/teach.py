"""Teach: a teacher works through a student's responses, rewriting them or writing new prompts.

(Critiques are feedback: `stages.judge.judge` with a `critique:` source gives and keeps them.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from alignlab import progress
from alignlab.data.filters import FilterConfig, filter_prompts
from alignlab.errors import BadInput
from alignlab.feedback.model_judge import ModelJudge
from alignlab.feedback.teachers import Criticised, Instructor, Refiner, refined_id
from alignlab.stages import meter
from alignlab.stages.lab import Lab, chunks
from alignlab.types import (
    Count,
    Critique,
    Demonstration,
    Feedback,
    Prompt,
    Response,
    SampledBy,
    Unscored,
)

T = TypeVar("T", Response, Prompt)

TEACH_CHUNK = 64
"""Items asked about and written together."""


def with_critiques(
    prompts: Sequence[Prompt], responses: Sequence[Response], feedback: Sequence[Feedback]
) -> list[Criticised]:
    """Responses with their critiques; those without one are left out."""
    asked = {prompt.id: prompt for prompt in prompts}
    given = {response.id: response for response in responses}
    return [
        Criticised(asked[f.prompt_id], given[f.response_ids[0]], f.verdict.text)
        for f in feedback
        if isinstance(f.verdict, Critique)
    ]


def as_lessons(
    critic: ModelJudge,
    teacher: Refiner,
    criticised: Sequence[Criticised],
    refined: Sequence[Response],
) -> list[Demonstration]:
    """Demonstrations of criticising and of refining, asked as the teachers were.

    A response that was not refined gives the critique alone.
    """
    better = {response.id: response for response in refined}
    lessons = []
    for one in criticised:
        key = one.response.id
        asked = Prompt(f"{key}/critique", critic.messages(one.prompt, one.response))
        said = Response(f"{key}/criticised", asked.id, one.critique, SampledBy(critic.name))
        lessons.append(Demonstration(asked, said, "critique"))
        if refined_id(key) in better:
            asked = Prompt(f"{key}/refine", teacher.messages(one))
            made = replace(better[refined_id(key)], prompt_id=asked.id)
            lessons.append(Demonstration(asked, made, "refine"))
    return lessons


def refine(
    lab: Lab, teacher: Refiner, criticised: Sequence[Criticised], *, name: str = "refine"
) -> list[Response]:
    """Rewrite responses by their critiques; the new ones have the id of the old and "/refined"."""
    return _taught(lab, name, teacher.name, Response, criticised, teacher.refine)


def instruct(
    lab: Lab,
    teacher: Instructor,
    errors: Sequence[Criticised],
    *,
    how: Literal["error", "contrast"] = "error",
    successes: Sequence[tuple[Prompt, Response]] = (),
    known: Sequence[Prompt] = (),
    filters: FilterConfig | None = None,
    name: str = "instruct",
) -> list[Prompt]:
    """Write a prompt per error, and keep those unlike the known ones and the errors' own.

    Args:
        how: "error" shows each error alone, "contrast" beside the nearest success.
        successes: prompts done well, for "contrast".
        known: prompts that a new one must differ from, held-out ones above all.

    Raises:
        BadInput: successes without effect, or a contrast without any.
    """
    if (how == "contrast") != bool(successes):
        raise BadInput(f"instruct: how={how}: expected successes for contrast, and for it alone")

    def ask(some: Sequence[Criticised], seed: int) -> list[Prompt | Unscored]:
        if how == "contrast":
            return teacher.from_contrast(some, successes, seed)
        return teacher.from_errors(some, seed)

    written = _taught(lab, name, teacher.name, Prompt, errors, ask)
    with lab.run.stage(f"{name}-filtered", config=filters) as stage:
        seen = [*known, *(error.prompt for error in errors)]
        result = filter_prompts(written, seen, filters or FilterConfig())
        stage.count([result.count])
        return stage.write("prompts", Prompt, result.kept)


def _taught(
    lab: Lab,
    name: str,
    by: str,
    kind: type[T],
    items: Sequence[Criticised],
    ask: Callable[[Sequence[Criticised], int], Sequence[T | Unscored]],
) -> list[T]:
    """What a teacher makes of each item, chunk by chunk; what it could not make is counted."""
    with lab.run.stage(name, inputs={"by": by}) as stage:
        file = stage.records("made", kind)
        lost = stage.records("lost", Count)
        parts = list(enumerate(chunks(items, TEACH_CHUNK)))
        todo = [part for part in parts if str(part[0]) not in file.units]
        if todo:
            with progress.task(lab.title(by), len(items)) as bar:
                bar.advance(len(items) - sum(len(some) for _, some in todo))
                for number, some in todo:
                    before = meter.mark()
                    found = ask(some, lab.seed_for(name, by))
                    why = Counter(f.reason for f in found if isinstance(f, Unscored))
                    # Counted first: what a kill leaves uncommitted is counted the same once more.
                    if str(number) not in lost.units:
                        lost.append(str(number), [Count(stage.name, "lost", 0, dict(why))])
                    new = [f for f in found if isinstance(f, kind)]
                    file.append(str(number), new, meter.since(before))
                    bar.advance(len(some))
        if not stage.done:
            reasons: Counter[str] = Counter()
            for count in lost.read():
                reasons.update(count.dropped)
            stage.count([Count(stage.name, "made", file.count(), dict(reasons))])
        return file.read()
