"""Build a judge from a model: one prompt, read from samples or from the score's distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alignlab.configs import Bounded, Fraction, NonNegative, PositiveInt
from alignlab.errors import BadInput
from alignlab.feedback.expected_score import ExpectedScoreJudge
from alignlab.feedback.model_judge import ModelJudge
from alignlab.feedback.prompts import judge_prompt
from alignlab.protocols import ChoiceScorer, Completer, FeedbackSource
from alignlab.types import Sampling


@dataclass(frozen=True)
class JudgeSettings(Bounded):
    """Settings of judging with a model."""

    method: Literal["samples", "expected"] = "samples"
    """"samples": the mean of sampled judgements; "expected": the mean of the distribution over
    the score tokens, in one forward pass."""
    prompt: str = "additive_five_point"
    """Judge prompt, by its file's name in feedback/prompts."""
    samples: PositiveInt = 3
    """Judgements drawn per response by method "samples"."""
    temperature: NonNegative = 0.7
    """Sampling temperature of a judgement."""
    top_p: Fraction = 0.9
    """Nucleus mass of a judgement."""
    max_tokens: PositiveInt = 256
    """Maximum number of tokens of a judgement."""


def sampled_judge(completer: Completer, settings: JudgeSettings) -> ModelJudge:
    """Build a judge that averages the completer's sampled scores."""
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens, settings.samples)
    return ModelJudge(
        completer, judge_prompt(settings.prompt), samples=settings.samples, sampling=sampling
    )


def model_judge(completer: Completer, settings: JudgeSettings) -> FeedbackSource:
    """Build a judge from a completer by `settings.method`.

    Raises:
        BadInput: the expected score is requested of a completer without log-probabilities.
    """
    if settings.method == "samples":
        return sampled_judge(completer, settings)
    if not isinstance(completer, ChoiceScorer):
        raise BadInput(
            f"method=expected: the expected score needs log-probabilities, which {completer.name} "
            "does not give; use method=samples"
        )
    return ExpectedScoreJudge(completer, judge_prompt(settings.prompt))
