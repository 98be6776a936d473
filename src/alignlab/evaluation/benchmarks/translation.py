"""Translation: corpus BLEU and chrF of a model's translations against references.

Both count shared n-grams: a good translation in other words scores low, and BLEU depends on the
tokens that are counted (sacrebleu's defaults here). Figures are comparable where the same test set
and metric signature were used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Interval
from alignlab.evaluation.metrics.overlap import bleu, chrf
from alignlab.evaluation.question_files import single
from alignlab.evaluation.task_files import read_rows
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question, subject
from alignlab.registry import register
from alignlab.types import EvalResult, Feedback, Sampling, Score

NAME = "translation"
METRICS: Mapping[str, Callable[..., Interval]] = {"bleu": bleu, "chrf": chrf}


@register("benchmark", NAME)
@dataclass(frozen=True)
class Translation:
    """BLEU and chrF (0 to 100) of translations between two languages."""

    source_language: str = "German"
    """Language of the texts, as the prompt names it."""
    target_language: str = "English"
    """Language to translate into, as the prompt names it."""
    source: str = "src"
    """Field of the data that holds the text to translate."""
    reference: str = "ref"
    """Field of the data that holds a good translation."""

    needs: ClassVar[Needs] = Needs(
        data="rows with a text and its translation (fields src and ref unless source= and "
        "reference= say otherwise), WMT test sets for example (github.com/wmt-conference)",
        sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=512),
    )

    def questions(self, data: Path) -> list[Question]:
        """One question per text."""
        return [
            single(
                row,
                NAME,
                f"Translate this text from {self.source_language} into {self.target_language}. "
                f"Write the translation alone.\n\n{row.text(self.source)}",
                key=str(number),
                references=(row.text(self.reference),),
            )
            for number, row in enumerate(read_rows(data))
        ]

    def measure(self, asked: BenchmarkInputs) -> Findings:
        """Compare every model's translations, as one corpus, with the references."""
        rows: list[EvalResult] = []
        said: list[Feedback] = []
        for answers, answered in asked.by_model():
            if not answered:
                raise BadInput(f"{answers.model}: expected at least one translation, found none")
            texts = [given[-1].text.strip() for _, given in answered]
            references = [q.references for q, _ in answered]
            about = subject(asked, answers.model, NAME)
            for name, metric in METRICS.items():
                figure = metric(texts, references, seed=asked.seed)
                rows.append(about.row(name, figure, unscored=asked.unanswered(answers)))
            for (question, given), text in zip(answered, texts, strict=True):
                one = _sentence_chrf(text, question.references[0])
                said.append(Feedback(question.id, (given[-1].id,), "chrF", Score(one)))
        return Findings(tuple(rows), tuple(said))


def _sentence_chrf(text: str, reference: str) -> float:
    """chrF of one translation, by which the report picks examples."""
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(text, [reference]).score)
