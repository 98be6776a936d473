"""Share of a response's sentences that are relevant, each judged on its own.

This is the relevant sentence ratio of arXiv 2402.03469, as a score from 0 to 1. Sentences without a
readable verdict are left out of the share and counted in the rationale; with none readable the
response is Unscored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from alignlab.ask_model import Ask, Reply, ask_model
from alignlab.at_once import at_once
from alignlab.configs import PositiveInt, build
from alignlab.feedback.model_judge import OnceOptions
from alignlab.feedback.prompts import judge_prompt
from alignlab.protocols import Completer, MakeCompleter, flatten
from alignlab.registry import register
from alignlab.text import sentences
from alignlab.turns import strip_thoughts
from alignlab.types import Feedback, Prompt, Response, Score, Unscored, Verdict
from alignlab.verdicts import yes_or_no


@dataclass(frozen=True)
class SentenceOptions(OnceOptions):
    """Options of `sentences,`."""

    prompt: str = "sentence"
    """Judge prompt with the place {sentence}, by its file's name or by path."""
    max_tokens: PositiveInt = 32
    """Most tokens of a verdict."""


class SentenceJudge:
    """Judge that rates every sentence of a response with a model."""

    by_sentence: ClassVar[bool] = True

    def __init__(self, completer: Completer, options: SentenceOptions | None = None) -> None:
        chosen = options or SentenceOptions()
        self.prompt = judge_prompt(chosen.prompt)
        self.sampling = chosen.sampling()
        self.name = f"{completer.name} as judge (relevant sentences)"
        self._completer, self.at_once = completer, at_once(completer)

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response; its samples are its sentences: 1 relevant, 0 not."""
        rated = [(p, r, sentences(strip_thoughts(r.text))) for p, r in flatten(items)]
        asks = [
            Ask(
                f"sentence|{response.id}|{place}",
                self.prompt.render(prompt, response, sentence=text),
            )
            for prompt, response, found in rated
            for place, text in enumerate(found)
        ]
        replies = iter(
            ask_model(self._completer, asks, yes_or_no, sampling=self.sampling, seed=seed)
        )
        return [
            self._feedback(prompt, response, [next(replies)[0] for _ in found])
            for prompt, response, found in rated
        ]

    def _feedback(
        self, prompt: Prompt, response: Response, replies: Sequence[Reply[bool]]
    ) -> Feedback:
        samples = tuple(None if r.read is None else float(r.read) for r in replies)
        read = [sample for sample in samples if sample is not None]
        verdict: Verdict
        if not replies:
            verdict = Unscored("the response has no sentence")
        elif not read:
            verdict = Unscored("no readable verdict on any sentence")
        else:
            verdict = Score(sum(read) / len(read), samples)
        counts = f"{sum(read):g} of {len(read)} sentences relevant, {samples.count(None)} unread"
        raw = tuple(reply.text for reply in replies)
        return Feedback(prompt.id, (response.id,), self.name, verdict, counts, raw)


@register("feedback", "sentences", options=SentenceOptions)
def make_sentence_judge(
    rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]
) -> SentenceJudge:
    """`sentences:ENGINE`: the share of sentences that a model finds relevant, 0 to 1."""
    return SentenceJudge(make_completer(rest), build(SentenceOptions, options))
