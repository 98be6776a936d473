"""Self-refine: responses are criticised, then rewritten by the critiques, by one and the same model
or teacher; how much better they became is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from alignlab.feedback.model_judge import critique_judge
from alignlab.feedback.prompts import judge_prompt
from alignlab.feedback.teachers import Refiner, refined_id
from alignlab.protocols import Completer, FeedbackSource
from alignlab.stages.judge import judge, scores
from alignlab.stages.lab import Lab
from alignlab.stages.limits import at_least
from alignlab.stages.measure import Values
from alignlab.stages.teach import as_lessons, refine, with_critiques
from alignlab.types import Demonstration, Prompt, Response, Sampling

BENCHMARK = "refinement"


@dataclass(frozen=True)
class RefineSettings:
    """How critiques and refinements are asked for."""

    critique_prompt: str = "critique"
    """How a critique is asked for, by its file's name in feedback/prompts or by path."""
    refine_prompt: str = "refine"
    """How a refinement is asked for, likewise."""
    temperature: float = 0.7
    """Sampling temperature of both; that of the first answers, so that a refinement is not better
    for being drawn with less chance."""
    top_p: float = 0.9
    """Nucleus mass of both."""
    critique_tokens: int = 256
    """Most tokens of a critique."""
    refined_tokens: int = 512
    """Most tokens of a refinement."""

    def __post_init__(self) -> None:
        at_least("refine", self, temperature=0, critique_tokens=1, refined_tokens=1)


class Refined(NamedTuple):
    """What became of some responses."""

    lessons: list[Demonstration]
    """The critiques and refinements, to imitate."""
    responses: list[Response]
    """The refinements, each with the id of its response and "/refined"."""


def refine_by(
    lab: Lab,
    completer: Completer,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    settings: RefineSettings,
) -> Refined:
    """Have a model criticise responses and rewrite them; what it could not do is counted."""
    drawn = (settings.temperature, settings.top_p)
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
    said = judge(lab, critic, prompts, responses, name="critique")
    criticised = with_critiques(prompts, responses, said)
    better = refine(lab, refiner, criticised)
    return Refined(as_lessons(critic, refiner, criticised, better), better)


def gain(
    lab: Lab,
    source: FeedbackSource,
    prompts: Sequence[Prompt],
    first: Sequence[Response],
    refined: Sequence[Response],
    *,
    model: str,
) -> Values:
    """Score of each refinement less that of its first response; unscored where either has none."""
    said = scores(judge(lab, source, prompts, [*first, *refined], name="refinement-scores"))
    found = {
        response.prompt_id: said[refined_id(response.id)] - said[response.id]
        for response in first
        if response.id in said and refined_id(response.id) in said
    }
    lost = len(first) - len(found)
    return Values(model, BENCHMARK, "gain", tuple(found), tuple(found.values()), unscored=lost)
