"""Score checkpoints during training, so that the best one on validation prompts is selected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from alignlab.configs import Bounded, NonNegativeInt
from alignlab.context import RunContext
from alignlab.errors import RunFailed
from alignlab.generation.local import LocalEngine
from alignlab.models.load import LanguageModel
from alignlab.protocols import FeedbackSource
from alignlab.stages.sample import SampleSettings
from alignlab.turns import strip_thoughts
from alignlab.types import Checkpoint, CompletionRequest, Prompt, Response, SampledBy, Score


@dataclass(frozen=True)
class SelectSettings(Bounded):
    """Checkpoint selection in preference training (arXiv 2401.10020: the best by a judge)."""

    prompts: NonNegativeInt = 0
    """Number of the data's own prompts, used for nothing else, on which checkpoints are compared
    every `preference.validate_every` steps; 0 keeps the last checkpoint."""
    judge: str = ""
    """Feedback source whose mean score selects the checkpoint; empty uses `measure.judge`."""


def scores_by_prompt(
    context: RunContext, source: FeedbackSource, prompts: Sequence[Prompt], settings: SampleSettings
) -> Callable[[LanguageModel], dict[str, float]]:
    """Return a function: model -> prompt id -> score of its response, the random draws fixed.

    Prompts whose response has no score are left out.
    """
    sampling = replace(settings.sampling(), n=1)
    seed = context.seed_for("validation")

    def value(lm: LanguageModel) -> dict[str, float]:
        requests = [CompletionRequest(p.id, p.messages, sampling, seed) for p in prompts]
        # A study that is planned hands over the checkpoint, which is not loaded.
        engine = context.engine(lm) if isinstance(lm, Checkpoint) else LocalEngine(lm)
        items = [
            (p, [Response(f"{p.id}/validation", p.id, text, SampledBy(lm.name))])
            for p, (drawn,) in zip(prompts, engine.complete(requests), strict=True)
            if drawn.finish != "error"
            for text in [strip_thoughts(drawn.text)]
        ]
        rated = zip(items, context.rate(source, items, seed), strict=True)
        scores = {
            prompt.id: feedback.verdict.value
            for (prompt, _), feedback in rated
            if isinstance(feedback.verdict, Score)
        }
        if not scores:
            raise RunFailed(f"{source.name} could score no answer to the validation prompts")
        return scores

    return value
