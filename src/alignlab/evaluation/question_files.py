"""Questions as benchmarks publish them: FastChat's layout, and plain rows with one prompt each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignlab.errors import bad_record
from alignlab.evaluation.task_files import BenchmarkRow, read_rows
from alignlab.evaluation.tasks import Question
from alignlab.types import Message, Prompt

ASKED = ("prompt", "instruction", "question", "input", "text")


def fastchat_questions(path: Path, benchmark: str) -> list[Question]:
    """Rows `{"question_id", "category", "turns"}` (MT-Bench, Vicuna-Bench, Arena-Hard's layouts).

    Raises:
        BadInput: a row without an id or without turns.
    """
    return [_question(row, benchmark) for row in read_rows(path)]


def fastchat_references(path: Path) -> dict[str, tuple[str, ...]]:
    """Question id -> the reference answer to each turn (FastChat's model answers).

    Raises:
        BadInput: a row without an id or without answers.
    """
    found = {}
    for row in read_rows(path):
        choices = row.values.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise bad_record(path, row.line, "choices", "a list of answers", choices)
        answers = BenchmarkRow(path, row.line, choices[0])
        found[row.key("question_id")] = tuple(answers.texts("turns"))
    return found


def plain_questions(
    path: Path, benchmark: str, *, asked: tuple[str, ...] = ASKED
) -> list[Question]:
    """Rows with one prompt each, and an optional `id` and `category`.

    Raises:
        BadInput: a row without a prompt.
    """
    return [
        single(row, benchmark, row.text(*asked), key=str(number))
        for number, row in enumerate(read_rows(path))
    ]


def single(
    row: BenchmarkRow,
    benchmark: str,
    text: str,
    *,
    key: str,
    references: tuple[str, ...] = (),
    baseline: str | None = None,
) -> Question:
    """A question of one user turn; `key` is its id where the row holds none."""
    known = any(row.values.get(field) is not None for field in ("id", "question_id", "prompt_id"))
    name = row.key("id", "question_id", "prompt_id") if known else key
    part = row.maybe("category") or row.maybe("dataset")
    prompt = Prompt(
        id=name,
        messages=(Message("user", text),),
        source=f"{benchmark}/{part}" if part else benchmark,
        reference=references[0] if references else None,
    )
    return Question(prompt, references=references, baseline=baseline)


def _question(row: BenchmarkRow, benchmark: str) -> Question:
    turns = _turns(row)
    part = row.maybe("category") or row.maybe("subcategory")
    prompt = Prompt(
        id=row.key("question_id", "uid", "id"),
        messages=(Message("user", turns[0]),),
        source=f"{benchmark}/{part}" if part else benchmark,
    )
    return Question(prompt, follow_ups=tuple(turns[1:]))


def _turns(row: BenchmarkRow) -> list[str]:
    """User turns: texts, or objects with `content`; or the one `prompt`."""
    turns: Any = row.values.get("turns")
    if turns is None:
        return [row.text("prompt")]
    if isinstance(turns, list) and all(isinstance(t, dict) for t in turns):
        turns = [t.get("content") for t in turns]
    return BenchmarkRow(row.file, row.line, {"turns": turns}).texts("turns")
