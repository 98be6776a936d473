"""Criticise and rewrite responses with one model, and measure the improvement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from alignlab.configs import Bounded, Fraction, NonNegative, PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput, unknown_name
from alignlab.feedback.model_judge import critique_judge
from alignlab.feedback.prompts import judge_prompt
from alignlab.feedback.reviewer import LABELS, Review, Reviewer
from alignlab.feedback.teachers import Refiner, refined_id
from alignlab.protocols import Completer, FeedbackSource
from alignlab.stages.judge import judge, scores
from alignlab.stages.teach import TEACH_CHUNK, as_lessons, refine, with_critiques
from alignlab.types import (
    Count,
    Demonstration,
    Prompt,
    Response,
    SampledBy,
    Sampling,
    Unscored,
)

NOT_BETTER, UNSCORED = "the refinement is not better", "no score of both responses"


@dataclass(frozen=True)
class RefineSettings(Bounded):
    """Settings of critiques and refinements."""

    style: Literal["two", "one"] = "two"
    """"two": a critique, then a refinement, in two turns; "one": both in one reply of labelled
    fields (arXiv 2406.07168)."""
    fields: tuple[str, ...] = tuple(LABELS)
    """Fields before the improved response in style=one: weaknesses, score, suggestions; [] has
    none, the ablation."""
    review_prompt: str = "review"
    """Prompt template of style=one: name of a file in feedback/prompts, or a path."""
    keep: Literal["all", "better"] = "all"
    """Pairs of a round to train on: all, or those whose refinement scores higher than the first
    response by `gate`."""
    gate: str = "self"
    """Feedback source of keep=better; "self" is the student's own judgement by the settings in
    judge."""
    ift: Fraction = 1.0
    """Share of the human answers that are imitated along with the trace."""
    critique_prompt: str = "critique"
    """Prompt template for a critique: name of a file in feedback/prompts, or a path."""
    refine_prompt: str = "refine"
    """Prompt template for a refinement: name of a file in feedback/prompts, or a path."""
    temperature: NonNegative = 0.7
    """Sampling temperature of critiques and refinements, equal to that of the first responses, so
    that a refinement is not better merely by a lower temperature."""
    top_p: Fraction = 0.9
    """Nucleus mass of critiques and refinements."""
    critique_tokens: PositiveInt = 256
    """Maximum number of tokens of a critique."""
    refined_tokens: PositiveInt = 512
    """Maximum number of tokens of a refinement; of a whole review in style=one, critique_tokens
    are added."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.fields:
            if name not in LABELS:
                raise unknown_name("field of a review", name, LABELS)
        if self.style == "two" and self.fields != tuple(LABELS):
            raise BadInput("setting refine.fields: has no effect with refine.style=two")
        if self.keep == "all" and self.gate != "self":
            raise BadInput("setting refine.gate: has no effect with refine.keep=all")
        for name in (self.critique_prompt, self.refine_prompt, self.review_prompt):
            judge_prompt(name)


@dataclass(frozen=True)
class Reviewed:
    """Review of a response as it is kept in a run."""

    of: str
    """Id of the response that was reviewed."""
    text: str
    """Text of the whole review."""
    response: Response
    """The improved response."""


class Refined(NamedTuple):
    """Critiques and refinements of some responses."""

    lessons: list[Demonstration]
    """The critiques and refinements, to imitate."""
    responses: list[Response]
    """The refinements, each with the id of its response plus "/refined"."""


def refine_by(
    context: RunContext,
    completer: Completer,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    settings: RefineSettings,
) -> Refined:
    """Criticise and rewrite responses with a model; count failures by reason."""
    drawn = (settings.temperature, settings.top_p)
    if settings.style == "one":
        most = settings.critique_tokens + settings.refined_tokens
        prompt = judge_prompt(settings.review_prompt)
        reviewer = Reviewer(completer, settings.fields, prompt, sampling=Sampling(*drawn, most))
        return review_by(context, reviewer, prompts, responses)
    critic = critique_judge(
        completer,
        judge_prompt(settings.critique_prompt),
        sampling=Sampling(*drawn, settings.critique_tokens),
    )
    refiner = Refiner(
        completer,
        judge_prompt(settings.refine_prompt),
        sampling=Sampling(*drawn, settings.refined_tokens),
    )
    critiques = judge(context, critic, prompts, responses, name="critique")
    criticised = with_critiques(prompts, responses, critiques)
    better = refine(context, refiner, criticised)
    return Refined(as_lessons(critic, refiner, criticised, better), better)


def review_by(
    context: RunContext,
    reviewer: Reviewer,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
) -> Refined:
    """Review and rewrite responses in one reply each; count replies that are no review."""
    asked = {prompt.id: prompt for prompt in prompts}
    items = [(asked[response.prompt_id], response) for response in responses]
    seed = context.seed_for("review", reviewer.name)

    def review(some: Sequence[tuple[Prompt, Response]]) -> list[Reviewed | Unscored]:
        found = reviewer.review(some, seed)
        if context.recorder:  # stand-ins write no fields
            blank = Review(dict.fromkeys(reviewer.fields, "-"), "-")
            found = [(blank, _stand_in(context, r, reviewer.name)) for _, r in some]
        return [
            one if isinstance(one, Unscored) else Reviewed(first.id, one[0].text, one[1])
            for (_, first), one in zip(some, found, strict=True)
        ]

    with context.run.stage("review", inputs={"by": reviewer.name}) as stage:
        made = stage.map(
            "made", Reviewed, items, review, chunk=TEACH_CHUNK, title=context.title(reviewer.name)
        )
        if not stage.done:
            stage.count([Count(stage.name, "reviews", len(made), stage.lost())])
    known = {response.id: (prompt, response) for prompt, response in items}
    lessons = [
        Demonstration(
            Prompt(f"{one.of}/review", reviewer.messages(*known[one.of])),
            Response(f"{one.of}/reviewed", f"{one.of}/review", one.text, SampledBy(reviewer.name)),
            "refine",
        )
        for one in made
    ]
    return Refined(lessons, [one.response for one in made])


def better_refinements(
    context: RunContext,
    source: FeedbackSource,
    prompts: Sequence[Prompt],
    first: Sequence[Response],
    refined: Sequence[Response],
) -> list[Response]:
    """Keep refinements that score higher than their first response; count the others."""
    known = scores(judge(context, source, prompts, [*first, *refined], name="gate-scores"))
    before = {refined_id(response.id): response.id for response in first}
    with context.run.stage("gate", inputs={"by": source.name}) as stage:
        kept = stage.records("better", Response)
        if not stage.done:
            lost: Counter[str] = Counter()
            better = []
            for response in refined:
                pair = known.get(response.id), known.get(before[response.id])
                if pair[0] is None or pair[1] is None:
                    lost[UNSCORED] += 1
                elif pair[0] > pair[1] or context.recorder:
                    better.append(response)
                else:
                    lost[NOT_BETTER] += 1
            stage.write("better", Response, better)
            stage.count([Count(stage.name, "refinements", len(better), dict(lost))])
        return kept.read()


def _stand_in(context: RunContext, first: Response, by: str) -> Response:
    """Return an improved response of typical length for a dry run."""
    assert context.recorder is not None
    text = context.recorder.text(max(1, len(first.text) // 4))
    return Response(refined_id(first.id), first.prompt_id, text, SampledBy(by))
