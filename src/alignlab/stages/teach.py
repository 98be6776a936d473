"""Let a teacher rewrite a student's responses or write new prompts from its errors.

Critiques are feedback: `stages.judge.judge` with a `critique:` source produces them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from alignlab.context import RunContext
from alignlab.data.filters import FilterConfig, filter_prompts
from alignlab.errors import BadInput
from alignlab.feedback.model_judge import ModelJudge
from alignlab.feedback.teachers import Criticised, Instructor, Refiner, refined_id
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
"""Number of items requested and written together."""


def with_critiques(
    prompts: Sequence[Prompt], responses: Sequence[Response], feedback: Sequence[Feedback]
) -> list[Criticised]:
    """Return responses with their critiques, leaving out those without one."""
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
    """Build demonstrations of criticising and of refining from the teachers' prompts and answers.

    A response that was not refined gives the critique alone.
    """
    better = {response.id: response for response in refined}
    lessons = []
    for item in criticised:
        key = item.response.id
        asked = Prompt(f"{key}/critique", critic.messages(item.prompt, item.response))
        critique = Response(f"{key}/criticised", asked.id, item.critique, SampledBy(critic.name))
        lessons.append(Demonstration(asked, critique, "critique"))
        if refined_id(key) in better:
            asked = Prompt(f"{key}/refine", teacher.messages(item))
            refinement = replace(better[refined_id(key)], prompt_id=asked.id)
            lessons.append(Demonstration(asked, refinement, "refine"))
    return lessons


def refine(
    context: RunContext, teacher: Refiner, criticised: Sequence[Criticised], *, name: str = "refine"
) -> list[Response]:
    """Rewrite responses by their critiques; a new id is the old one plus "/refined"."""
    return _taught(context, name, teacher.name, Response, criticised, teacher.refine)


def instruct(
    context: RunContext,
    teacher: Instructor,
    errors: Sequence[Criticised],
    *,
    how: Literal["error", "contrast", "mimic"] = "error",
    successes: Sequence[tuple[Prompt, Response]] = (),
    known: Sequence[Prompt] = (),
    filters: FilterConfig | None = None,
    name: str = "instruct",
) -> list[Prompt]:
    """Generate a prompt per error, dropping those too similar to known prompts or to the errors.

    Args:
        how: "error" shows each error alone, "contrast" with the nearest successes, "mimic" its
            question alone.
        successes: prompts answered well, for "contrast".
        known: prompts that a new one must differ from, including the held-out ones.

    Raises:
        BadInput: successes without effect, or a contrast without any.
    """
    if (how == "contrast") != bool(successes):
        raise BadInput(f"instruct: how={how}: expected successes for contrast, and for it alone")

    def ask(some: Sequence[Criticised], seed: int) -> list[Prompt | Unscored]:
        if how == "contrast":
            return teacher.from_contrast(some, successes, seed)
        if how == "mimic":
            return teacher.from_questions(some, seed)
        return teacher.from_errors(some, seed)

    written = _taught(context, name, teacher.name, Prompt, errors, ask)
    with context.run.stage(f"{name}-filtered", config=filters) as stage:
        seen = [*known, *(error.prompt for error in errors)]
        result = filter_prompts(written, seen, filters or FilterConfig())
        stage.count([result.count])
        return stage.write("prompts", Prompt, result.kept)


def _taught(
    context: RunContext,
    name: str,
    by: str,
    kind: type[T],
    items: Sequence[Criticised],
    ask: Callable[[Sequence[Criticised], int], Sequence[T | Unscored]],
) -> list[T]:
    """Map items to the teacher's results; count failures by reason."""
    seed = context.seed_for(name, by)
    with context.run.stage(name, inputs={"by": by}) as stage:
        made = stage.map(
            "made",
            kind,
            items,
            lambda some: ask(some, seed),
            chunk=TEACH_CHUNK,
            title=context.title(by),
        )
        if not stage.done:
            stage.count([Count(stage.name, "made", len(made), stage.lost())])
        return made
