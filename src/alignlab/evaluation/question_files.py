"""Reader of questions in the benchmarks' published layouts.

FastChat (MT-Bench, Vicuna-Bench): `{question_id, category, turns}`; its first release and FairEval
have one `text`. Arena-Hard: `{uid, category, prompt}`; its first release has FastChat's layout with
objects `{content}` as turns. Other files: rows with one prompt each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignlab.errors import bad_record
from alignlab.evaluation.task_files import BenchmarkRow, read_rows
from alignlab.evaluation.tasks import Question
from alignlab.text import is_failed_answer
from alignlab.types import Message, Prompt

ASKED = ("prompt", "instruction", "question", "input", "text")


def fastchat_questions(path: Path, benchmark: str) -> list[Question]:
    """Read the questions of MT-Bench, Vicuna-Bench or Arena-Hard.

    Raises:
        BadInput: a row without an id or without turns.
    """
    return [_question(row, benchmark) for row in read_rows(path)]


def fastchat_references(path: Path) -> dict[str, tuple[str, ...]]:
    """Read question id -> the reference answer to each turn, from FastChat's model answers.

    Raises:
        BadInput: a row without an id or without answers.
    """
    found = {}
    for row in read_rows(path):
        choices = row.values.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise bad_record(path, row.line, "choices", "a list of answers", choices)
        turns = BenchmarkRow(path, row.line, choices[0]).texts("turns")
        if failed := next(filter(is_failed_answer, turns), None):
            raise bad_record(path, row.line, "choices", "an answer to each turn", failed)
        found[row.key("question_id", "uid")] = tuple(turns)
    return found


def plain_questions(
    path: Path, benchmark: str, *, asked: tuple[str, ...] = ASKED
) -> list[Question]:
    """Read rows with one prompt each, and an optional `id` and `category`.

    Raises:
        BadInput: a row without a prompt.
    """
    return [
        single(row, benchmark, asked_text(row, *asked), key=str(number))
        for number, row in enumerate(read_rows(path))
    ]


def asked_text(row: BenchmarkRow, *fields: str) -> str:
    """Read a row's question from the first of the fields; an instruction's `input` goes under it.

    Raises:
        BadInput: none of the fields is there, or it holds no text.
    """
    text, given = row.text(*fields), row.maybe("input")
    is_instruction = text == row.values.get("instruction")
    return f"{text}\n\n{given}" if is_instruction and given and given.strip() else text


def single(
    row: BenchmarkRow,
    benchmark: str,
    text: str,
    *,
    key: str,
    references: tuple[str, ...] = (),
    baseline: str | None = None,
) -> Question:
    """Build a question of one user turn; `key` is its id where the row holds none."""
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
    """Read the user turns, texts or objects with `content`; or the one `prompt` or `text`."""
    turns = row.values.get("turns")
    if turns is None:
        return [row.text("prompt", "text")]
    if isinstance(turns, list):
        turns = [_content(turn) for turn in turns]
    return BenchmarkRow(row.file, row.line, {"turns": turns}).texts("turns")


def _content(turn: Any) -> Any:
    """Unwrap the text of a turn that is an object with `content`."""
    return turn.get("content") if isinstance(turn, dict) else turn
