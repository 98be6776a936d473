"""Score: a feedback source's mean score of each model's answers, whole and by prompt type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignlab.evaluation.benchmarks.head_to_head import answers
from alignlab.evaluation.metrics.intervals import bootstrap_mean
from alignlab.evaluation.result_rows import Subject, by_group
from alignlab.protocols import FeedbackSource
from alignlab.registry import register
from alignlab.types import EvalResult, Feedback, Prompt, Response, Score

NAME = "score"


@register("benchmark", NAME)
@dataclass(frozen=True)
class MeanScore:
    """Mean score of every model's answers on a judge's scale."""

    test_prompts: tuple[Prompt, ...]
    """Prompts that every model answers once."""
    judge: FeedbackSource
    """Gives the scores; what it cannot score is counted and left out."""
    name: str = NAME

    def prompts(self) -> list[Prompt]:
        return list(self.test_prompts)

    def score(self, responses: Mapping[str, Sequence[Response]], seed: int) -> list[EvalResult]:
        """Rate every model's answers.

        Raises:
            BadInput: an answer of a model is missing.
        """
        rows: list[EvalResult] = []
        for model, some in responses.items():
            own = answers(self.test_prompts, some, model)
            items = [(p, [r]) for p, r in zip(self.test_prompts, own, strict=True)]
            judged = self.judge.rate(items, seed)
            rows += score_rows(Subject(model, self.name), judged, self.test_prompts, seed=seed)
        return rows


def score_rows(
    subject: Subject,
    judged: Sequence[Feedback],
    prompts: Sequence[Prompt],
    *,
    metric: str = "mean",
    seed: int = 0,
) -> list[EvalResult]:
    """Mean score with its interval over prompts, whole and by part.

    Feedback on several responses to a prompt (several training seeds, say) may come together;
    a prompt's scores are resampled together.
    """
    prompt_of = {prompt.id: prompt for prompt in prompts}
    rows: list[EvalResult] = []
    for group, some in by_group(judged, lambda f: prompt_of[f.prompt_id]):
        scored = [(f.prompt_id, f.verdict.value) for f in some if isinstance(f.verdict, Score)]
        figure = bootstrap_mean(
            [value for _, value in scored], prompts_N=[prompt for prompt, _ in scored], seed=seed
        )
        unscored = len(some) - len(scored)
        rows.append(subject.row(metric, figure, unscored=unscored, group=group))
    return rows
