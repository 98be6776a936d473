"""SuperNI: ROUGE-L of answers to tasks given by instructions (arXiv 2204.07705).

Every task is a definition, a few solved examples and inputs with accepted outputs. The figure is
the mean ROUGE-L against the best accepted output. A right answer in a whole sentence, or with an
explanation, scores low. The tasks' texts come from a folder or a file; figures are comparable for
the 119 official test tasks with 100 instances each and 2 examples.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from alignlab.configs import Bounded, NonNegativeInt
from alignlab.errors import BadInput, bad_record
from alignlab.evaluation.task_files import BenchmarkRow
from alignlab.evaluation.task_rows import Measure, QuestionValue, part_rows
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question, subject
from alignlab.files import read_text
from alignlab.registry import register
from alignlab.rouge import rouge_l
from alignlab.strict_json import parse_json
from alignlab.types import EvalResult, Feedback, Message, Prompt, Sampling, Score

NAME = "super_ni"
TEST_TASKS = 119
ROUGE, EXACT = Measure("rouge_l", is_share=True), Measure("exact_match", is_share=True)


@register("benchmark", NAME)
@dataclass(frozen=True)
class SuperNI(Bounded):
    """ROUGE-L and exact match on tasks given by instructions, overall and by task category."""

    instances: NonNegativeInt = 100
    """Inputs taken of each task, the first ones; 0 takes all."""
    examples: NonNegativeInt = 2
    """Solved examples shown with each input."""

    needs: ClassVar[Needs] = Needs(
        data="a folder of SuperNI task*.json files, or one of them "
        "(github.com/allenai/natural-instructions, tasks/)",
        sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=128),
    )

    def questions(self, data: Path) -> list[Question]:
        """Read one question per input of every task."""
        files = sorted(data.glob("*.json")) if data.is_dir() else [data]
        if not files:
            raise BadInput(f"{data}: expected task*.json files, found none")
        return [question for file in files for question in self._of_task(file)]

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Compare every answer with the accepted outputs."""
        rows: list[EvalResult] = []
        judgements: list[Feedback] = []
        for answers, answered in inputs.by_model():
            texts = [responses[-1].text.strip() for _, responses in answered]
            scores_N = rouge_l(texts, [q.references for q, _ in answered])
            found = [
                QuestionValue(q.id, float(s)) for (q, _), s in zip(answered, scores_N, strict=True)
            ]
            exact = [
                QuestionValue(q.id, float(any(_plain(text) == _plain(r) for r in q.references)))
                for (q, _), text in zip(answered, texts, strict=True)
            ]
            missing = [
                QuestionValue(q.id, None) for q in inputs.questions if q.id not in answers.turns
            ]
            about = subject(inputs, answers.model, NAME)
            for measure, values in ((ROUGE, found), (EXACT, exact)):
                rows += part_rows(
                    about, measure, values + missing, inputs.prompts, seed=inputs.seed
                )
            judgements += [
                Feedback(v.prompt_id, (responses[-1].id,), "ROUGE-L", Score(v.value or 0.0))
                for v, (_, responses) in zip(found, answered, strict=True)
            ]
        tasks = {q.id.partition("-")[0] for q in inputs.questions}
        official = self.instances == 100 and self.examples == 2 and len(tasks) == TEST_TASKS
        comparable = official and not any(row.unscored for row in rows)
        return Findings(tuple(replace(r, comparable=comparable) for r in rows), tuple(judgements))

    def _of_task(self, file: Path) -> list[Question]:
        try:
            values = parse_json(read_text(file))
        except (ValueError, RecursionError) as error:
            line = error.lineno if isinstance(error, json.JSONDecodeError) else None
            raise bad_record(file, line, None, "JSON", str(error)) from None
        if not isinstance(values, dict):
            raise bad_record(file, 1, None, "a task, a JSON object", values)
        task = BenchmarkRow(file, 1, values)
        chosen = task.objects("Instances")[: self.instances or None]
        if not chosen:
            raise task.bad("Instances", "at least one input", [])
        category = task.texts("Categories")[0] if values.get("Categories") else file.stem
        intro = self._intro(task)
        return [
            _question(BenchmarkRow(file, number, instance), file.stem, category, intro)
            for number, instance in enumerate(chosen, start=1)
        ]

    def _intro(self, task: BenchmarkRow) -> str:
        """Format the definition and the solved examples."""
        definition = task.values.get("Definition")
        is_text = isinstance(definition, str)
        judgements = task.text("Definition") if is_text else task.texts("Definition")[0]
        has_examples = task.values.get("Positive Examples") is not None
        solved = task.objects("Positive Examples") if has_examples else []
        parts = [f"Task: {judgements.strip()}"]
        for number, example in enumerate(solved[: self.examples], start=1):
            row = BenchmarkRow(task.file, number, example)
            parts.append(
                f"Example {number}\nInput: {row.text('input')}\nOutput: {row.text('output')}"
            )
        return "\n\n".join(parts)


def _question(row: BenchmarkRow, task: str, category: str, intro: str) -> Question:
    is_text = isinstance(row.values.get("output"), str)
    references = (row.maybe("output") or "",) if is_text else tuple(row.texts("output"))
    text = (
        f"{intro}\n\nNow do it for this input; write the output alone.\nInput: {row.text('input')}"
    )
    is_named = row.values.get("id") not in (None, "", 0)
    prompt = Prompt(
        id=row.key("id") if is_named else f"{task}-{row.line}",
        messages=(Message("user", f"{text}\nOutput:"),),
        source=f"{NAME}/{category}",
        reference=references[0],
    )
    return Question(prompt, references=references)


def _plain(text: str) -> str:
    return " ".join(text.lower().strip(" .").split())
