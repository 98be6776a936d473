"""RM-Bench: sensitivity of a source of scores to style and small errors (arXiv 2410.16184).

Every prompt has three good and three bad answers in the same three styles: concise, detailed,
detailed with markdown. Every good answer is compared with every bad one, ties wrong: `hard` where
the bad one has the fancier style, `normal` where both have the same, `easy` where the good one has
it. A domain's accuracy is the mean of the three; figures of the whole are means over the domains
chat, code, math and safety.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from alignlab.evaluation.candidates import (
    Scored,
    Scores,
    candidate_question,
    mean_of_parts,
    scored_candidates,
)
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_files import BenchmarkRow, read_rows
from alignlab.evaluation.task_rows import Measure, QuestionValue, one_row
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question
from alignlab.registry import register
from alignlab.types import EvalResult

NAME = "rm_bench"
DOMAINS = ("chat", "code", "math", "safety")
"""Prefixes of the domains' names; safety has two parts that are pooled."""
PROMPTS = 1327
"""Prompts of the whole benchmark."""


@register("benchmark", NAME)
@dataclass(frozen=True)
class RMBench:
    """Accuracy of a reward model, or any source of scores, on RM-Bench by domain and difficulty."""

    needs: ClassVar[Needs] = Needs(
        data="RM-Bench's total_dataset.json or one domain's file "
        "(github.com/THU-KEG/RM-Bench, data/), also as JSONL or Parquet",
        judges=("scores",),
        models="none",
    )

    def questions(self, data: Path) -> list[Question]:
        """Read every prompt with its six answers; a file of one domain names it in its name."""
        return [_question(row, str(number)) for number, row in enumerate(read_rows(data))]

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Score every answer; the guess that the longest is best comes second."""
        every, judged = scored_candidates(inputs)
        rows = [row for scored in every for row in _rows(inputs, scored)]
        whole = len(inputs.questions) == PROMPTS and not any(row.unscored for row in rows)
        return Findings(tuple(replace(row, comparable=whole) for row in rows), tuple(judged))


def difficulties(scores: Scores) -> dict[str, float | None]:
    """Return the shares of right comparisons: hard, normal, easy, and their mean.

    Args:
        scores: scores of K good answers by style, then of K bad ones in the same styles.
    """
    k = len(scores) // 2
    right: dict[str, list[bool]] = {"hard": [], "normal": [], "easy": []}
    for i, good in enumerate(scores[:k]):
        for j, bad in enumerate(scores[k:]):
            if good is None or bad is None:
                return dict.fromkeys((*right, "accuracy"))
            right["hard" if i < j else "normal" if i == j else "easy"].append(good > bad)
    shares: dict[str, float | None] = {name: sum(s) / len(s) for name, s in right.items()}
    return shares | {"accuracy": sum(v for v in shares.values() if v is not None) / 3}


def _question(row: BenchmarkRow, key: str) -> Question:
    name = row.maybe("domain") or row.file.name
    domain = next((d for d in DOMAINS if name.lower().startswith(d)), "")
    if not domain:
        raise row.bad("domain", " or ".join(DOMAINS), row.maybe("domain"))
    question = candidate_question(row, key, f"{NAME}/{domain}")
    if len(question.candidates) != 2 * question.good or question.good < 2:
        expected = f"as many answers as are chosen, at least 2 ({question.good} are)"
        found = len(question.candidates) - question.good
        raise row.bad("rejected", expected, found)
    return question


def _rows(inputs: BenchmarkInputs, scored: Scored) -> list[EvalResult]:
    about = Subject(scored.name, NAME)
    values = {q.id: difficulties(scored.scores[q.id]) for q in inputs.questions}
    rows: list[EvalResult] = []
    for metric in ("accuracy", "easy", "normal", "hard"):
        parts: dict[str, list[QuestionValue]] = {}
        for question in inputs.questions:
            value = QuestionValue(question.id, values[question.id][metric])
            parts.setdefault(question.part, []).append(value)
        rows.append(mean_of_parts(about, metric, parts, inputs.prompts, seed=inputs.seed))
        measure = Measure(metric, is_share=True)
        rows += [
            one_row(
                about, measure, some, inputs.prompts, seed=inputs.seed, group=f"family:{domain}"
            )
            for domain, some in parts.items()
        ]
    return rows
