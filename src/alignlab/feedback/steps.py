"""Turn judgements by sentence into rewards inside the response (ARES, arXiv 2407.00087).

Reward of a sentence: its value less `offset`, at the token that ends it; the last sentence's lies
at the response's last token. With gamma 1 a sum of rewards above 0 pays for more sentences:
`total=mean` divides by their number. A response with an unread sentence is unscored, as in the
paper's code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from alignlab import seeds
from alignlab.at_once import at_once
from alignlab.configs import build
from alignlab.errors import BadInput
from alignlab.protocols import FeedbackSource, MakeCompleter, flatten
from alignlab.registry import register
from alignlab.text import sentence_ends
from alignlab.turns import strip_thoughts
from alignlab.types import Feedback, Prompt, Response, Score, StepScore, Unscored


@dataclass(frozen=True)
class StepOptions:
    """Options of `steps,`."""

    offset: float = 0.5
    """Value of a neutral sentence, subtracted from each; the paper's values lie in [0, 1]."""
    total: Literal["sum", "mean"] = "sum"
    """Reward of a response: the sum of its sentences' rewards, or their mean."""
    values: Literal["judged", "random"] = "judged"
    """Value of a sentence: the judge's, or drawn evenly from [0, 1] instead, the control."""
    at: Literal["sentence", "end"] = "sentence"
    """Place of the rewards: each at the end of its sentence, or their total at the end of the
    response, the control for telling sentences apart."""


class SentenceSteps:
    """Feedback source that rewards each sentence of a response."""

    by_sentence: ClassVar[bool] = True

    def __init__(self, source: FeedbackSource, options: StepOptions | None = None) -> None:
        """Set up the source.

        Args:
            source: judge whose `samples` are the values of the response's sentences.
            options: scale and total of the rewards.

        Raises:
            BadInput: the judge rates whole responses.
        """
        if not getattr(source, "by_sentence", False):
            raise BadInput(
                f"steps: expected a judge of sentences (sentences:ENGINE, graded:ENGINE, a "
                f"python: function of sentences), found {source.name}"
            )
        self._source, self._options = source, options or StepOptions()
        self.at_once = at_once(source)
        chosen = self._options
        how = f"{chosen.total}, {chosen.values}, less {chosen.offset:g}, at {chosen.at}"
        self.name = f"steps ({how}): {source.name}"
        self.files = getattr(source, "files", {})

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response, with a reward per sentence and their total."""
        rated = self._source.rate(items, seed)
        return [
            self._feedback(feedback, response, seed)
            for feedback, (_, response) in zip(rated, flatten(items), strict=True)
        ]

    def _feedback(self, feedback: Feedback, response: Response, seed: int) -> Feedback:
        verdict, options = feedback.verdict, self._options
        if not isinstance(verdict, Score):
            return replace(feedback, source=self.name)
        ends = sentence_ends(strip_thoughts(response.text))
        read = [value for value in verdict.samples if value is not None]
        if len(read) != len(ends) or not ends:
            reason = "a sentence without a readable value"
            return replace(feedback, source=self.name, verdict=Unscored(reason))
        if options.values == "random":
            draw = seeds.generator(seed, "random steps", response.id)
            read = draw.uniform(0.0, 1.0, len(read)).tolist()
        unit = len(read) if options.total == "mean" else 1
        rewards = [(value - options.offset) / unit for value in read]
        steps = tuple(StepScore(end, value) for end, value in zip(ends, rewards, strict=True))
        score = Score(math.fsum(rewards), tuple(read))
        inside = steps if options.at == "sentence" else None
        return replace(feedback, source=self.name, verdict=score, steps=inside)


@register("feedback", "steps", options=StepOptions)
def make_steps(
    rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]
) -> SentenceSteps:
    """`steps[,offset=0.5,total=mean]:SPEC`: each sentence rewarded by a judge of sentences."""
    from alignlab.feedback.specs import judge  # which imports all sources by name

    return SentenceSteps(judge(rest, make_completer=make_completer), build(StepOptions, options))
