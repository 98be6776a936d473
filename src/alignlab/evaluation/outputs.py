"""Answers that a model gave before: files of outputs, joined to a benchmark's questions.

Layouts: AlpacaEval's `model_outputs.json` (`instruction`, `output`, `generator`), FastChat's model
answers (`question_id`, `model_id`, `choices[0].turns`), own response records (`prompt_id`, `text`),
and plain rows with `id` (or `prompt_id`, `question_id`) or `instruction`/`prompt`, and `output`,
`response`, `text`, `completion` or `turns`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput, bad_record
from alignlab.evaluation.task_files import BenchmarkRow, read_rows
from alignlab.evaluation.tasks import ModelAnswers, Question
from alignlab.types import Response, SampledBy

IDS = ("id", "prompt_id", "question_id", "uid", "instruction_id")
ASKED = ("instruction", "prompt", "question")
TEXTS = ("output", "response", "text", "completion", "answer", "sample")


def read_outputs(
    path: Path, questions: Sequence[Question], name: str | None = None
) -> ModelAnswers:
    """The answers in a file to a benchmark's questions; other rows are left aside.

    Args:
        name: what to call the model; by default as the file says, else the file's name.

    Raises:
        BadInput: a bad row, a question answered twice or by another number of turns, or no
            question answered.
    """
    rows = read_rows(path)
    model = name or _named(rows) or path.name.split(".")[0]
    by_id = {q.id: q for q in questions}
    by_text: dict[str, Question] = {}
    for question in questions:
        by_text.setdefault(question.prompt.text.strip(), question)
    found: dict[str, tuple[Response, ...]] = {}
    for row in rows:
        asked = _question(row, by_id, by_text)
        if asked is None:
            continue
        if asked.id in found:
            raise bad_record(path, row.line, None, "one answer to each question", asked.id)
        found[asked.id] = _responses(row, asked, model)
    if not found:
        raise BadInput(
            f"{path}: expected answers to the benchmark's questions (joined by id or by the "
            f"question's text), found none in {len(rows)} rows"
        )
    return ModelAnswers(model, found)


def given_baseline(questions: Sequence[Question], name: str) -> ModelAnswers | None:
    """The baseline's answers that come with the questions; None where there are none."""
    found = {
        q.id: (Response(f"{q.id}/{name}", q.id, q.baseline, SampledBy(name)),)
        for q in questions
        if q.baseline is not None
    }
    return ModelAnswers(name, found) if found else None


def _named(rows: Sequence[BenchmarkRow]) -> str | None:
    """The one model that the rows name."""
    names = {_model(row.values) for row in rows}
    if len(names) > 1:
        raise BadInput(
            f"{rows[0].file}: expected the outputs of one model, found {len(names)}: "
            f"{', '.join(sorted(map(str, names))[:3])}"
        )
    return names.pop()


def _model(values: Mapping[str, Any]) -> str | None:
    sampler = values.get("sampler")
    if isinstance(sampler, dict):
        return str(sampler.get("model"))
    for field in ("generator", "model_id", "model", "model_type"):
        if isinstance(values.get(field), str):
            return str(values[field])
    return None


def _question(
    row: BenchmarkRow, by_id: Mapping[str, Question], by_text: Mapping[str, Question]
) -> Question | None:
    for field in IDS:
        found = by_id.get(str(row.values.get(field)))
        if found is not None:
            return found
    for field in ASKED:
        text = row.values.get(field)
        if isinstance(text, str) and text.strip() in by_text:
            return by_text[text.strip()]
    return None


def _responses(row: BenchmarkRow, question: Question, model: str) -> tuple[Response, ...]:
    texts = _texts(row)
    turns = 1 + len(question.follow_ups)
    if len(texts) != turns:
        raise bad_record(row.file, row.line, None, f"{turns} answers (one a turn)", len(texts))
    return tuple(
        Response(f"{question.id}/{model}/{turn}", question.id, text, SampledBy(model))
        for turn, text in enumerate(texts)
    )


def _texts(row: BenchmarkRow) -> list[str]:
    choices = row.values.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return BenchmarkRow(row.file, row.line, choices[0]).texts("turns")
    if "turns" in row.values:
        return row.texts("turns")
    for field in TEXTS:
        found = row.values.get(field)
        if isinstance(found, list):
            return row.texts(field)
        if found is not None:
            if not isinstance(found, str):
                raise bad_record(row.file, row.line, field, "a text", found)
            return [found]
    raise bad_record(row.file, row.line, "output", "an answer", f"fields {list(row.values)}")
