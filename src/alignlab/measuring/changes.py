"""Compare the models of a study prompt by prompt, any two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from alignlab.measuring.measure import PerPromptMetric
from alignlab.types import Feedback, Score

ByPrompt = Mapping[str, float]
"""Prompt id -> value."""


def values_by_prompt(scored: Mapping[str, Sequence[Feedback]]) -> dict[str, dict[str, float]]:
    """Return model -> prompt id -> score of its answer; unscored answers are left out."""
    return {
        model: {f.prompt_id: f.verdict.value for f in feedback if isinstance(f.verdict, Score)}
        for model, feedback in scored.items()
    }


def changes(
    values: Mapping[str, ByPrompt],
    against: Iterable[tuple[str, str]],
    benchmark: str,
    metric: str,
) -> list[PerPromptMetric]:
    """Return each model's value minus the other's on the prompts that both have.

    Args:
        values: model -> its value on each prompt.
        against: (model, other model); a pair without shared prompts gives nothing.
    """
    found = []
    for model, other in against:
        own, base = values.get(model, {}), values.get(other, {})
        both = [prompt for prompt in own if prompt in base]
        if both:
            apart = tuple(own[p] - base[p] for p in both)
            found.append(PerPromptMetric(model, benchmark, metric, tuple(both), apart, other))
    return found
