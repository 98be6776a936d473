"""Measure the improvement of refined over first responses."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.context import RunContext
from alignlab.feedback.teachers import refined_id
from alignlab.measuring.measure import PerPromptMetric
from alignlab.protocols import FeedbackSource
from alignlab.stages.judge import judge, scores
from alignlab.types import Prompt, Response

BENCHMARK = "refinement"


def gain(
    context: RunContext,
    source: FeedbackSource,
    prompts: Sequence[Prompt],
    first: Sequence[Response],
    refined: Sequence[Response],
    *,
    model: str,
) -> PerPromptMetric:
    """Compute each refinement's score minus its first response's; unscored if either is."""
    scored = scores(judge(context, source, prompts, [*first, *refined], name="refinement-scores"))
    found = {
        response.prompt_id: scored[refined_id(response.id)] - scored[response.id]
        for response in first
        if response.id in scored and refined_id(response.id) in scored
    }
    lost = len(first) - len(found)
    return PerPromptMetric(
        model, BENCHMARK, "gain", tuple(found), tuple(found.values()), unscored=lost
    )
