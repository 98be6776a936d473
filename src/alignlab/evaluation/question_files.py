"""Reader of questions in the benchmarks' published layouts.

FastChat (MT-Bench, Vicuna-Bench): `{question_id, category, turns}`; its first release and FairEval
have one `text`. Arena-Hard: `{uid, category, prompt}`; its first release has FastChat's layout with
objects `{content}` as turns. Other files: rows with one prompt each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignlab.evaluation.task_files import BenchmarkRow, keyed, read_rows
from alignlab.evaluation.tasks import Question
from alignlab.text import is_failed_answer, trimmed
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
        BadInput: a row without an id or without answers, or a question answered twice.
    """
    found = {}
    for key, row in keyed(read_rows(path), "question_id", _id).items():
        choices = row.values.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise row.bad("choices", "a list of answers", choices)
        turns = BenchmarkRow(path, row.line, choices[0]).texts("turns")
        if failed := next(filter(is_failed_answer, turns), None):
            raise row.bad("choices", "an answer to each turn", failed)
        found[key] = tuple(turns)
    return found


def _id(row: BenchmarkRow) -> str:
    return row.key("question_id", "uid")


def refuse_relabelled(
    seen: dict[str, tuple[str, int]], row: BenchmarkRow, text: str, label: str
) -> None:
    """Refuse a prompt that an earlier row gave with another label.

    Args:
        seen: prompt -> its label and line, of the earlier rows; this row's is added.

    Raises:
        BadInput: the labels differ.
    """
    known, line = seen.setdefault(trimmed(text), (label, row.line))
    if known != label:
        raise row.bad("label", f"{known}, as of the same prompt in line {line}", label)


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
    found = BenchmarkRow(row.file, row.line, {"turns": turns}).texts("turns")
    if not all(map(str.strip, found)):
        raise row.bad("turns", "texts that are not blank", turns)
    return found


def _content(turn: Any) -> Any:
    """Unwrap the text of a turn that is an object with `content`."""
    return turn.get("content") if isinstance(turn, dict) else turn
