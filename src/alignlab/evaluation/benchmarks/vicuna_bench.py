"""Vicuna-Bench: 80 single questions, answers compared with a baseline's in both positions.

Adjusted win rate = (wins + ties/2) / judged (arXiv 2402.03469, section 4). The figure is that of
one judge and one baseline: it is not comparable with those of others, whatever the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from alignlab.evaluation.duels import duel_findings
from alignlab.evaluation.question_files import fastchat_questions
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question
from alignlab.registry import register

NAME = "vicuna_bench"


@register("benchmark", NAME)
@dataclass(frozen=True)
class VicunaBench:
    """Adjusted win rate against a baseline on Vicuna-Bench's questions, both positions judged."""

    needs: ClassVar[Needs] = Needs(
        data="Vicuna-Bench's question.jsonl "
        "(github.com/lm-sys/FastChat, fastchat/llm_judge/data/vicuna_bench)",
        judges=("pairs",),
        baseline="needed",
    )

    def questions(self, data: Path) -> list[Question]:
        """Read the 80 questions, by category."""
        return fastchat_questions(data, NAME)

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Compare every model with the baseline."""
        return duel_findings(inputs, NAME, comparable=False)
