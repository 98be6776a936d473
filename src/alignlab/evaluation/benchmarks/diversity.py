"""Diversity of several answers to a prompt, as Self-BLEU (arXiv 2402.03469; arXiv 1802.01886)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from alignlab.configs import Bounded
from alignlab.errors import BadInput
from alignlab.evaluation.attempts import attempt_id, attempts, refuse_greedy
from alignlab.evaluation.corpus_prompts import held_out_or_all
from alignlab.evaluation.metrics.self_bleu import self_bleu
from alignlab.evaluation.task_rows import Measure, QuestionValue, part_rows
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question, subject
from alignlab.registry import register
from alignlab.types import Corpus, EvalResult, Feedback, Response, Sampling, Score, Unscored

NAME = "diversity"
SELF_BLEU = Measure("self_bleu")
"""Mean BLEU (0 to 100) of each answer to a prompt against the others; lower is more diverse."""
DIFFERENT = Measure("different_share", is_share=True)
"""Share of a prompt's answers that are different texts: 1 where no two are equal."""


@register("benchmark", NAME)
@dataclass(frozen=True)
class Diversity(Bounded):
    """Self-BLEU of several answers to each prompt, overall and by query type."""

    samples: int = 10
    """Answers to each prompt, 2 or more, sampled at temperature 0.7 unless `temperature` is set."""

    needs: ClassVar[Needs] = Needs(
        data="any prompts; held-out prompts alone where the data holds some",
        corpus=True,
        sampling=Sampling(temperature=0.7, top_p=1.0, max_tokens=128),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2:
            raise BadInput(f"setting samples: expected 2 or more, found {self.samples}")

    def questions(self, data: Corpus) -> list[Question]:
        """Build a question for every answer to every prompt.

        Raises:
            BadInput: the data has no prompts.
        """
        asked = held_out_or_all(data)
        if not asked:
            raise BadInput(f"{data.name}: expected prompts, found none")
        return [one for p in asked for one in attempts(Question(p), self.samples)]

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Compare the answers to each prompt; prompts that lack one are unscored.

        Raises:
            BadInput: the answers were decoded greedily.
        """
        found = Findings(())
        for answers, answered in inputs.by_model():
            refuse_greedy((turns[-1] for _, turns in answered), self.samples)
            several: dict[str, list[Response]] = {q.repeats: [] for q in inputs.questions}
            for question, turns in answered:
                several[question.repeats].append(turns[-1])
            compared = [_compare(prompt, some, self.samples) for prompt, some in several.items()]
            about = subject(inputs, answers.model, NAME)
            rows: list[EvalResult] = []
            for measure, values in (
                (SELF_BLEU, [one.self_bleu for one in compared]),
                (DIFFERENT, [one.different for one in compared]),
            ):
                rows += part_rows(about, measure, values, inputs.prompts, seed=inputs.seed)
            said = tuple(one.feedback for one in compared if one.feedback)
            found += Findings(tuple(rows), said)
        return found


class _Compared(NamedTuple):
    self_bleu: QuestionValue
    different: QuestionValue
    feedback: Feedback | None
    """Self-BLEU as the feedback on the prompt's first answer; None without an answer."""


def _compare(prompt: str, answers: Sequence[Response], samples: int) -> _Compared:
    """Compare the answers to a prompt; they are unscored where one is missing."""
    texts = [answer.text for answer in answers]
    bleu = self_bleu(texts) if len(texts) == samples else None
    different = None if bleu is None else len(set(texts)) / samples
    feedback = None
    if answers:
        reason = f"{len(texts)} of {samples} answers"
        verdict = Unscored(reason) if bleu is None else Score(bleu)
        feedback = Feedback(answers[0].prompt_id, (answers[0].id,), "self_bleu", verdict, reason)
    first = attempt_id(prompt, 1)
    return _Compared(QuestionValue(first, bleu), QuestionValue(first, different), feedback)
