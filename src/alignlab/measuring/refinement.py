"""Measure how much better refined responses are than first ones."""

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
    """Score of each refinement less that of its first response; unscored where either has none."""
    said = scores(judge(context, source, prompts, [*first, *refined], name="refinement-scores"))
    found = {
        response.prompt_id: said[refined_id(response.id)] - said[response.id]
        for response in first
        if response.id in said and refined_id(response.id) in said
    }
    lost = len(first) - len(found)
    return PerPromptMetric(
        model, BENCHMARK, "gain", tuple(found), tuple(found.values()), unscored=lost
    )
