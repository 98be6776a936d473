"""Compare pairs of a study's models by the change of score, prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterable

from alignlab.measuring.measure import PerPromptMetric, StudyMeasurements
from alignlab.types import Score


def score_changes(
    measured: StudyMeasurements, pairs: Iterable[tuple[str, str]]
) -> list[PerPromptMetric]:
    """Return the change of score of each (model, other), for pairs that the study has.

    Prompts that either model left unscored are left out and counted.
    """
    known = {
        model: {f.prompt_id: f.verdict.value for f in feedback if isinstance(f.verdict, Score)}
        for model, feedback in measured.scored.items()
    }
    found = []
    for model, other in pairs:
        if model not in known or other not in known:
            continue
        both = tuple(p for p in known[model] if p in known[other])
        changes = tuple(known[model][p] - known[other][p] for p in both)
        lost = len(measured.scored[model]) - len(both)
        found.append(PerPromptMetric(model, "score", "change", both, changes, other, lost))
    return found
