"""Criticise and rewrite responses with one model, and measure the improvement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from alignlab.configs import Bounded, Fraction, NonNegative, PositiveInt
from alignlab.context import RunContext
from alignlab.feedback.model_judge import critique_judge
from alignlab.feedback.prompts import judge_prompt
from alignlab.feedback.teachers import Refiner
from alignlab.protocols import Completer
from alignlab.stages.judge import judge
from alignlab.stages.teach import as_lessons, refine, with_critiques
from alignlab.types import Demonstration, Prompt, Response, Sampling


@dataclass(frozen=True)
class RefineSettings(Bounded):
    """Settings of critiques and refinements."""

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
    """Maximum number of tokens of a refinement."""


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
