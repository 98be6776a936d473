"""Measure answers by sentence: the mean value of their sentences, and the number of sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignlab.context import RunContext
from alignlab.measuring.measure import PerPromptMetric
from alignlab.protocols import FeedbackSource
from alignlab.runs import slug
from alignlab.stages.judge import judge
from alignlab.types import Prompt, Response, Score

BENCHMARK = "sentences"


def sentence_values(
    context: RunContext,
    source: FeedbackSource,
    prompts: Sequence[Prompt],
    answers: Mapping[str, Sequence[Response]],
) -> list[PerPromptMetric]:
    """Return each model's mean value of a sentence and sentences per answer, by prompt.

    Args:
        source: judge of sentences, whose samples are the values of an answer's sentences.
        prompts: the held-out prompts.
        answers: model -> its answers.
    """
    found = []
    for model, several in answers.items():
        rated = judge(context, source, prompts, several, name=f"sentences-{slug(model)}")
        read = {f.prompt_id: f.verdict for f in rated if isinstance(f.verdict, Score)}
        ids, lost = tuple(read), len(rated) - len(read)
        means = tuple(score.value for score in read.values())
        counts = tuple(float(len(score.samples)) for score in read.values())
        for metric, values in (("sentence_value", means), ("sentences", counts)):
            found.append(PerPromptMetric(model, BENCHMARK, metric, ids, values, unscored=lost))
    return found
