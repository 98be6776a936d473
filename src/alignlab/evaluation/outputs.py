"""Reader of answers that a model gave earlier, joined to a benchmark's questions.

Layouts: AlpacaEval's `model_outputs.json` (`instruction`, `output`, `generator`), FastChat's and
Arena-Hard's model answers (`question_id` or `uid`, `choices[0].turns` or `messages`), OpenAI's
responses (`choices[0].message` or `text`), own response records (`prompt_id`, `text`), and plain
rows with an id or `instruction`/`prompt`/`question`, and `output`, `response`, `text`, `completion`
or `turns`.

A row that holds the question's text belongs to that question: many files number their own rows, so
an id counts only where the text agrees with it or the row holds none. Rows of a question that the
benchmark asks several times are paired with it in order.

A null answer is no answer: its question stays unanswered and is counted. FastChat's `$ERROR$` and
the empty cells of a table, which writes null and an empty text alike, are null. Of several turns
those before the first null one are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput
from alignlab.evaluation.task_files import BenchmarkRow, id_text, is_text, read_rows
from alignlab.evaluation.tasks import ModelAnswers, Question
from alignlab.text import is_failed_answer
from alignlab.types import Response, SampledBy

IDS = ("question_id", "prompt_id", "instruction_id", "uid", "id")
"""Fields that name the question, the row's own `id` last."""
MODELS = ("generator", "model_id", "model", "model_type")
"""Fields that name the model."""
ASKED = ("instruction", "prompt", "question", "messages")
TEXTS = ("output", "response", "text", "completion", "answer", "sample")
FOREIGN = "answers no question of the benchmark"
NULL = "null answer"
LATER_NULL = "null answer to a later turn, the turns before it kept"
FURTHER = "further choices, of which the first counts"
LOCAL_ERROR = "ERROR"
"""Answer that FastChat writes where a model on its own machine failed."""
TABLES = (".csv", ".tsv")


def read_outputs(
    path: Path, questions: Sequence[Question], name: str | None = None
) -> ModelAnswers:
    """Read one model's answers to a benchmark's questions; count null ones and other rows.

    Args:
        name: the model's name; by default the one in the file, else the file's name.

    Raises:
        BadInput: a bad row, a row whose id and text disagree, a question answered twice or by
            another number of turns, or no question answered.
    """
    rows = read_rows(path)
    model = _named(rows)
    model = name or model or path.name.split(".")[0]
    joined = _join(rows, questions)
    found: dict[str, tuple[Response, ...]] = {}
    left_out = Counter({FOREIGN: len(rows) - len(joined)})
    for row, question in joined:
        texts = _texts(row)
        choices = row.values.get("choices")
        left_out[FURTHER] += int(isinstance(choices, list) and len(choices) > 1)
        turns = 1 + len(question.follow_ups)
        answered = list(takewhile(lambda text: text is not None, texts))
        if not answered:
            left_out[NULL] += 1
        elif len(texts) != turns:
            raise row.bad(None, f"{turns} answers (one a turn)", len(texts))
        else:
            left_out[LATER_NULL] += int(len(answered) < turns)
            found[question.id] = tuple(
                Response(f"{question.id}/{model}/{turn}", question.id, text, SampledBy(model))
                for turn, text in enumerate(answered)
                if text is not None
            )
            if _is_cut(row.values):
                *before, last = found[question.id]
                found[question.id] = (*before, replace(last, finish="length"))
    if not found:
        null = f" ({left_out[NULL]} null)" if left_out[NULL] else ""
        raise BadInput(
            f"{path}: expected answers to the benchmark's questions (joined by id or by the "
            f"question's text), found none in {len(rows)} rows{null}"
        )
    return ModelAnswers(model, found, dict(+left_out))


def given_baseline(questions: Sequence[Question], name: str) -> ModelAnswers | None:
    """Return the baseline's answers that come with the questions; None where there are none."""
    found = {
        q.id: (Response(f"{q.id}/{name}", q.id, q.baseline, SampledBy(name)),)
        for q in questions
        if q.baseline is not None
    }
    return ModelAnswers(name, found) if found else None


def _named(rows: Sequence[BenchmarkRow]) -> str | None:
    """Return the one model that the rows name; None where they name none."""
    names = {name for row in rows if (name := _model(row)) is not None}
    if len(names) > 1:
        raise BadInput(
            f"{rows[0].file}: expected the outputs of one model, found {len(names)}: "
            f"{', '.join(sorted(names)[:3])}"
        )
    return names.pop() if names else None


def _model(row: BenchmarkRow) -> str | None:
    """Read the model's name; None where the row has none.

    Raises:
        BadInput: a field that names it holds something else, or `sampler` no name.
    """
    sampler = row.values.get("sampler")
    if isinstance(sampler, dict):
        name = sampler.get("model")
        if not is_text(name) or not name.strip():
            raise row.bad("sampler.model", "a model's name", name)
        return name
    return next(filter(None, map(row.maybe, MODELS)), None)


def _is_cut(values: Mapping[str, Any]) -> bool:
    """Return True for an answer that its length limit ended."""
    choices = values.get("choices")
    places = [values, *(choices[:1] if isinstance(choices, list) else ())]
    return any(
        place.get(field) == "length"
        for place in places
        if isinstance(place, dict)
        for field in ("finish", "finish_reason")
    )


def _join(
    rows: Sequence[BenchmarkRow], questions: Sequence[Question]
) -> list[tuple[BenchmarkRow, Question]]:
    """Pair rows with the questions that they answer; rows of no question are left out.

    Raises:
        BadInput: a row's id and text name different questions, a question is answered twice, or
            ids count from 1 where the questions' count from 0.
    """
    by_id = {q.id: q for q in questions}
    by_text: dict[str, list[Question]] = {}
    for question in questions:
        by_text.setdefault(question.prompt.text.strip(), []).append(question)
    _refuse_shifted(rows, by_id)
    named = [next((by_id[k] for k in _ids(row.values) if k in by_id), None) for row in rows]
    worded = [
        next((by_text[text] for text in _asked(row.values) if text in by_text), []) for row in rows
    ]
    # One row whose id is another question's than its text: the file numbers its own rows.
    own = any(q and same and q not in same for q, same in zip(named, worded, strict=True))
    taken: set[str] = set()
    joined = []
    for row, by_its_id, same in zip(rows, named, worded, strict=True):
        found = None if own else by_its_id
        if same and found not in same:
            found = next((q for q in same if q.id not in taken), same[-1])
        elif found is not None and not same:
            _refuse_other_text(row, found)
        if found is None:
            continue
        if found.id in taken:
            again = f"another to question {found.id}"
            raise row.bad(None, "one answer to each question", again)
        taken.add(found.id)
        joined.append((row, found))
    return joined


def _refuse_other_text(row: BenchmarkRow, question: Question) -> None:
    """Refuse a row with a question's id and another text, unless it quotes the question's text."""
    texts = list(_asked(row.values))
    if texts and not any(question.prompt.text.strip() in text for text in texts):
        expected = f"the text of question {question.id}, {question.prompt.text[:60]!r}"
        raise row.bad(None, expected, texts[-1])


def _refuse_shifted(rows: Sequence[BenchmarkRow], by_id: Mapping[str, Question]) -> None:
    """Refuse rows without text that are numbered from 1 where the questions are from 0, or so."""
    ids = {key for row in rows if not list(_asked(row.values)) for key in _ids(row.values)}
    for start, other in ((0, 1), (1, 0)):
        own, shifted = (range(at, at + len(by_id)) for at in (start, other))
        only_own, only_shifted = set(own) - set(shifted), set(shifted) - set(own)
        found = {str(n) for n in only_shifted} <= ids and not {str(n) for n in only_own} & ids
        if found and by_id.keys() == set(map(str, own)):
            raise BadInput(
                f"{rows[0].file}: expected ids from {own[0]} to {own[-1]} or the questions' texts, "
                f"found ids from {shifted[0]} to {shifted[-1]}"
            )


def _ids(values: Mapping[str, Any]) -> list[str]:
    return [id_text(values[field]) for field in IDS if values.get(field) is not None]


def _asked(values: Mapping[str, Any]) -> Iterable[str]:
    """Yield the texts of the question that a row may answer, the most specific first."""
    for field in ASKED:
        text = values.get(field)
        if isinstance(text, list):
            users = [m for m in text if isinstance(m, dict) and m.get("role") == "user"]
            text = users[-1 if field == "prompt" else 0].get("content") if users else None
        if isinstance(text, str) and text.strip():
            more = values.get("input")
            if field == "instruction" and isinstance(more, str) and more.strip():
                yield from (f"{text.strip()}{gap}{more.strip()}" for gap in ("\n\n", "\n"))
            yield text.strip()


def _texts(row: BenchmarkRow) -> list[str | None]:
    """Return a row's answers, one per turn; None for each that is null.

    Raises:
        BadInput: an answer is no text, or there is no field of answers.
    """
    messages, choices = row.values.get("messages"), row.values.get("choices")
    field = "turns" if "turns" in row.values else next((f for f in TEXTS if f in row.values), "")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        field, found = "choices", _chosen(row, choices[0])
    elif field:
        field = next((f for f in (field, *TEXTS) if row.values.get(f) is not None), field)
        found = row.values[field]
        found = row.texts(field) if field == "turns" and isinstance(found, str) else found
    elif isinstance(messages, list):
        answers = [m for m in row.objects("messages") if m.get("role") == "assistant"]
        field, found = "messages", [_content(m) for m in answers]
    else:
        raise row.bad("output", "an answer", f"fields {[*row.values]}")
    turns = [_content(turn) for turn in (found if isinstance(found, list) else [found])]
    if not turns or not all(turn is None or is_text(turn) for turn in turns):
        raise row.bad(field, "a text, or one per turn", found)
    is_table = row.file.name.lower().removesuffix(".gz").endswith(TABLES)
    null = {LOCAL_ERROR if field == "choices" else None, "" if is_table else None}
    return [
        None if turn is None or turn.strip() in null or is_failed_answer(turn) else turn
        for turn in turns
    ]


def _chosen(row: BenchmarkRow, choice: Mapping[str, Any]) -> Any:
    """Return the answer in a choice: turns (FastChat), a message or a text (OpenAI)."""
    for key in ("turns", "message", "text"):
        if key in choice:
            return choice[key]
    raise row.bad("choices[0]", "turns, message or text", f"fields {[*choice]}")


def _content(turn: Any) -> Any:
    """Return the text of a turn, which Arena-Hard wraps in one or two objects; None of a null."""
    for key in ("content", "answer"):
        if isinstance(turn, dict) and key in turn:
            turn = turn[key]
    return None if turn != turn else turn  # pandas writes a missing text as NaN
