"""Arena-Hard's way: answers to hard prompts against a baseline's, with style control.

Both orders are judged; beside the plain adjusted win rate stands the one with the effect of length,
headers, bold runs and lists taken out (`metrics.style_control`). The official judge weighs five
verdicts in a wording of its own (arXiv 2406.11939): figures are not comparable with its table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from alignlab.evaluation.duels import duel_findings, duels
from alignlab.evaluation.metrics.style_control import Battle, style_controlled
from alignlab.evaluation.question_files import fastchat_questions
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question, subject, value_of
from alignlab.registry import register
from alignlab.types import Sampling

NAME = "arena_hard"


@register("benchmark", NAME)
@dataclass(frozen=True)
class ArenaHard:
    """Win rate against a baseline on hard prompts, plain and with style taken out."""

    style_control: bool = True
    """Also fit the win rate without the effect of length and markdown."""

    needs: ClassVar[Needs] = Needs(
        data="Arena-Hard's question.jsonl (github.com/lmarena/arena-hard-auto, data/); "
        "any file of `{id, prompt, category}` will do",
        judges=("pairs",),
        baseline="needed",
        sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=4096),
    )

    def questions(self, data: Path) -> list[Question]:
        """The prompts, by category."""
        return fastchat_questions(data, NAME)

    def measure(self, asked: BenchmarkInputs) -> Findings:
        """Compare every model with the baseline, then take the style out."""
        fought = duels(asked)
        found = duel_findings(asked, NAME, fought, comparable=False)
        if not self.style_control:
            return found
        texts = {
            r.id: r.text
            for a in (*asked.answers, *((asked.baseline,) if asked.baseline else ()))
            for several in a.turns.values()
            for r in several
        }
        model_of = {r.id: a.model for a in asked.answers for s in a.turns.values() for r in s}
        cluster = {q.id: q.prompt.cluster for q in asked.questions}
        battles = []
        for feedback in fought.said:
            own, other = feedback.response_ids
            value = value_of(feedback)
            if value is not None:
                battles.append(
                    Battle(
                        model_of[own], cluster[feedback.prompt_id], texts[own], texts[other], value
                    )
                )
        fitted = style_controlled(battles, seed=asked.seed)
        rows = []
        for model, rate in fitted.win_rates.items():
            about = subject(asked, model, NAME)
            unscored = sum(o.value is None for o in fought.outcomes[model])
            rows.append(about.row("style_controlled_win_rate", rate, unscored=unscored))
            rows += [
                about.count(f"style_weight_{feature}", weight, rate.n)
                for feature, weight in fitted.weights.items()
            ]
        controlled = tuple(replace(row, comparable=False) for row in rows)
        return Findings(found.rows + controlled, found.said)
