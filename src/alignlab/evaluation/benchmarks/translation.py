"""Translation: corpus BLEU and chrF of a model's translations against references.

Both count shared n-grams: a good translation in other words scores low. BLEU depends on the
tokeniser, which every row names: by default sacrebleu's for the target language (`zh` for Chinese,
`ja-mecab` for Japanese, `ko-mecab` for Korean, else `13a`, which splits words at spaces). Figures
are comparable where test set, tokeniser and sacrebleu's version are the same.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Literal

from alignlab.bleu import bleu_metric
from alignlab.errors import BadInput
from alignlab.evaluation.metrics.overlap import bleu, chrf
from alignlab.evaluation.question_files import single
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_files import BenchmarkRow, read_rows
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question
from alignlab.registry import register
from alignlab.translation_prompt import translation_prompt
from alignlab.types import EvalResult, Feedback, Sampling, Score

NAME = "translation"
Tokeniser = Literal[
    "auto", "13a", "zh", "ja-mecab", "ko-mecab", "flores200", "char", "intl", "none"
]
TOKENISERS = {
    "zh": ("chinese", "mandarin", "cantonese", "zh"),
    "ja-mecab": ("japanese", "ja"),
    "ko-mecab": ("korean", "ko"),
}
"""Tokeniser of sacrebleu -> words of a language's name that select it."""
AT_SPACES = ("13a", "intl", "none")
NO_SPACES = re.compile(r"[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana,
Chinese characters."""
log = logging.getLogger(__name__)


@register("benchmark", NAME)
@dataclass(frozen=True)
class Translation:
    """BLEU and chrF (0 to 100) of translations between two languages."""

    source_language: str = "German"
    """Language of the texts, as named in the prompt."""
    target_language: str = "English"
    """Language to translate into, as named in the prompt."""
    source: str = "src"
    """Field of the data that holds the text to translate."""
    reference: str = "ref"
    """Field of the data that holds a good translation, or a list of them."""
    tokenize: Tokeniser = "auto"
    """Tokeniser of sacrebleu for BLEU; auto takes the target language's own."""

    needs: ClassVar[Needs] = Needs(
        data="rows with a text and its translation (fields src and ref unless source= and "
        "reference= say otherwise), WMT test sets for example (github.com/wmt-conference)",
        sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=512),
    )

    @property
    def tokeniser(self) -> str:
        """Return the name of the tokeniser in use."""
        if self.tokenize != "auto":
            return self.tokenize
        named = set(re.split(r"[\W_]+", self.target_language.lower()))
        return next((name for name, words in TOKENISERS.items() if named & {*words}), "13a")

    def questions(self, data: Path) -> list[Question]:
        """Read one question per text.

        Raises:
            BadInput: a bad row, or a tokeniser that is not installed.
        """
        bleu_metric(self.tokeniser)  # before a model answers
        return [
            single(
                row,
                NAME,
                translation_prompt(
                    row.text(self.source), self.source_language, self.target_language
                ),
                key=str(number),
                references=self._references(row),
            )
            for number, row in enumerate(read_rows(data))
        ]

    def _references(self, row: BenchmarkRow) -> tuple[str, ...]:
        """Read one good translation, or a list of several."""
        found = row.values.get(self.reference)
        several = tuple(row.texts(self.reference)) if isinstance(found, list) else ()
        if not all(text.strip() for text in several):
            expected = "texts that are not blank"
            raise row.bad(self.reference, expected, found)
        return several or (row.text(self.reference),)

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Compare every model's translations, as one corpus, with the references."""
        self._warn([r for q in inputs.questions for r in q.references])
        against = f"references (BLEU tokeniser {self.tokeniser}, sacrebleu {version('sacrebleu')})"
        rows: list[EvalResult] = []
        judgements: list[Feedback] = []
        for answers, answered in inputs.by_model():
            if not answered:
                raise BadInput(f"{answers.model}: expected at least one translation, found none")
            texts = [responses[-1].text.strip() for _, responses in answered]
            references = [q.references for q, _ in answered]
            about = Subject(answers.model, NAME, against=against)
            clusters, seed = [q.prompt.cluster for q, _ in answered], inputs.seed
            figures = {
                "bleu": bleu(
                    texts, references, tokenize=self.tokeniser, prompts_N=clusters, seed=seed
                ),
                "chrf": chrf(texts, references, prompts_N=clusters, seed=seed),
            }
            unscored = inputs.unanswered(answers)
            rows += [about.row(name, figure, unscored=unscored) for name, figure in figures.items()]
            for (question, responses), text in zip(answered, texts, strict=True):
                one = _sentence_chrf(text, question.references)
                judgements.append(Feedback(question.id, (responses[-1].id,), "chrF", Score(one)))
        return Findings(tuple(rows), tuple(judgements))

    def _warn(self, references: Sequence[str]) -> None:
        """Log a warning where words are split at spaces that the language does not write."""
        text = "".join(references)
        letters = sum(c.isalpha() for c in text)
        if self.tokeniser in AT_SPACES and 5 * len(NO_SPACES.findall(text)) > letters > 0:
            log.warning(
                "translation: BLEU with tokenize=%s splits words at spaces, and the references are "
                "in a language without; take tokenize=zh, ja-mecab, flores200 or char",
                self.tokeniser,
            )


def _sentence_chrf(text: str, references: Sequence[str]) -> float:
    """Compute chrF of one translation, by which the report picks examples."""
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(text, list(references)).score)
