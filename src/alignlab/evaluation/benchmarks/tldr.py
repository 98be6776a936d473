"""TL;DR: summaries of forum posts against the references', by a judge of pairs (arXiv 2009.01325).

The win rate is against a human's summary, so one half is human level in the judge's eyes. Judges
favour long summaries; ROUGE-L and the length in words come with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from alignlab.evaluation.duels import duel_findings
from alignlab.evaluation.question_files import single
from alignlab.evaluation.task_files import read_rows
from alignlab.evaluation.task_rows import Measure, QuestionValue, not_comparable, one_row
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question, subject
from alignlab.registry import register
from alignlab.rouge import rouge_l
from alignlab.text import words
from alignlab.types import EvalResult, Sampling

NAME = "tldr"
CUE = "TL;DR:"


@register("benchmark", NAME)
@dataclass(frozen=True)
class TLDR:
    """Win rate of a model's summaries against the references, with ROUGE-L and length."""

    post: str = "context"
    """Field of the data that holds the post."""
    summary: str = "ref_text"
    """Field of the data that holds the reference summary."""

    needs: ClassVar[Needs] = Needs(
        data="rows with a post and a reference summary (fields context and ref_text unless post= "
        "and summary= say otherwise), for example huggingface.co/datasets/openai/"
        "summarize_from_feedback",
        judges=("pairs",),
        baseline="allowed",
        sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=128),
    )

    def questions(self, data: Path) -> list[Question]:
        """Read one question per post; references of rows that repeat a post are collected."""
        found: dict[str, Question] = {}
        for number, row in enumerate(read_rows(data)):
            post = row.text(self.post).strip().removesuffix(CUE).rstrip()
            reference = row.text(self.summary)
            if post in found:
                known = found[post].references
                if reference not in known:
                    found[post] = replace(found[post], references=(*known, reference))
                continue
            text = f"Sum up this post in one or two sentences.\n\n{post}"
            found[post] = single(
                row, NAME, text, key=str(number), references=(reference,), baseline=reference
            )
        return list(found.values())

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Compare every summary with the reference, by the judge and by ROUGE-L."""
        found = duel_findings(inputs, NAME)
        rows: list[EvalResult] = list(found.rows)
        for answers, answered in inputs.by_model():
            texts = [responses[-1].text for _, responses in answered]
            scores_N = rouge_l(texts, [q.references for q, _ in answered])
            measured = {
                Measure("rouge_l", is_share=True): [float(s) for s in scores_N],
                Measure("words"): [float(len(words(text))) for text in texts],
            }
            about = subject(inputs, answers.model, NAME)
            missing = [
                QuestionValue(q.id, None) for q in inputs.questions if q.id not in answers.turns
            ]
            for measure, values in measured.items():
                valued = [
                    QuestionValue(q.id, v) for (q, _), v in zip(answered, values, strict=True)
                ]
                valued += missing
                rows.append(one_row(about, measure, valued, inputs.prompts, seed=inputs.seed))
        return Findings(not_comparable(rows), found.said)
