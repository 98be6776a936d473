"""Score of a response by the text that it shares with the prompt's reference.

chrF (Popovic 2015) and BLEU (Papineni and others 2002) of one text by `sacrebleu`, ROUGE-L (Lin
2004) by `rouge-score`, 0 to 1: the numerical feedback of translation and summarisation. The
benchmarks `translation` and `tldr` compute figures of a whole test set instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alignlab.configs import build
from alignlab.errors import BadInput
from alignlab.feedback.conversion import JudgeByScore, feedback_on
from alignlab.protocols import flatten
from alignlab.registry import register
from alignlab.turns import strip_thoughts
from alignlab.types import Feedback, Prompt, Response, Score, Unscored, Verdict

Metric = Callable[[str, str], float]
"""Function of a text and its reference to a score from 0 to 1."""


@dataclass(frozen=True)
class MetricOptions:
    """Options of a metric."""

    tokenize: str = "13a"
    """BLEU's tokeniser, by its name in sacrebleu: 13a splits at spaces, char takes characters."""


class MetricScore:
    """Feedback source that scores a response by a metric against the prompt's reference.

    Thoughts are left out. A prompt without a reference is unscored.
    """

    def __init__(self, metric: str, options: MetricOptions | None = None) -> None:
        """Set up a metric.

        Args:
            metric: "chrf", "bleu" or "rouge_l".

        Raises:
            BadInput: another metric, an unknown tokeniser, or a tokeniser for another than BLEU.
        """
        options = options or MetricOptions()
        makers = {"chrf": _chrf, "bleu": lambda: _bleu(options.tokenize), "rouge_l": _rouge_l}
        if metric not in makers:
            expected = ", ".join(makers)
            raise BadInput(f"feedback 'metric': expected one of {expected}, found {metric!r}")
        if metric != "bleu" and options != MetricOptions():
            raise BadInput(f"feedback 'metric': expected tokenize for bleu alone, found {metric!r}")
        self._score = makers[metric]()
        tokenize = "" if options == MetricOptions() else f" ({options.tokenize})"
        self.name = f"metric:{metric}{tokenize}"

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response, from 0 to 1."""
        verdicts = [self._verdict(prompt, response) for prompt, response in flatten(items)]
        return feedback_on(items, self.name, verdicts)

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Prefer the response with the higher score."""
        return JudgeByScore(self, name=self.name).compare(items, seed)

    def _verdict(self, prompt: Prompt, response: Response) -> Verdict:
        if not (prompt.reference or "").strip():
            return Unscored("the prompt has no reference")
        assert prompt.reference is not None
        text = strip_thoughts(response.text).strip()
        score = min(1.0, self._score(text, prompt.reference.strip()))  # BLEU's may round above
        return Score(score, (score,))


def _chrf() -> Metric:
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    return lambda text, reference: float(metric.sentence_score(text, [reference]).score) / 100


def _bleu(tokenize: str) -> Metric:
    from alignlab.bleu import bleu_metric

    metric = bleu_metric(tokenize, effective_order=True)
    return lambda text, reference: float(metric.sentence_score(text, [reference]).score) / 100


def _rouge_l() -> Metric:
    from alignlab.rouge import rouge_l

    return lambda text, reference: float(rouge_l([text], [[reference]])[0])


@register("feedback", "metric", options=MetricOptions)
def make_metric(rest: str, *, options: dict[str, Any]) -> MetricScore:
    """`metric:chrf`, `metric:rouge_l`, `metric[,tokenize=13a]:bleu`: overlap with the reference."""
    return MetricScore(rest, build(MetricOptions, options))
