"""Alpaca: `{"instruction": ..., "input": ..., "output": ...}`.

Also the forms that tuning programs add: `history` (earlier questions and answers), `system`, and
an `output` that is a list of answers, the best first.
"""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, ResponseDraft, demonstration, group, origin_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.errors import bad_record
from alignlab.types import Message


@row_format("alpaca", columns=[("instruction", "output"), ("instruction", "input", "output")])
def alpaca(row: Row, options: Options) -> list[BuildResult]:
    """Instructions with an optional input and the output to imitate."""
    origin = origin_of(row, "alpaca")
    asked = (*_before(row), Message("user", instruction_of(row)))
    if not isinstance(row.values.get("output"), list):
        return [demonstration(asked, ResponseDraft(row.text("output")), origin)]
    answers = [ResponseDraft(text, score=-rank) for rank, text in enumerate(row.texts("output"))]
    return [group(asked, answers, origin)]


def instruction_of(row: Row) -> str:
    """The user's turn: the instruction, and the input under it where there is one."""
    instruction, given = row.text("instruction"), row.optional_text("input")
    return f"{instruction}\n\n{given}" if given and given.strip() else instruction


def _before(row: Row) -> list[Message]:
    system = row.optional_text("system")
    said = [Message("system", system)] if system else []
    for number, turns in enumerate(row.items("history") if row.has("history") else []):
        place = f"history[{number}]"
        exchange = Row(row.file, row.line, {place: turns}).texts(place)
        if len(exchange) != 2:
            raise bad_record(row.file, row.line, place, "a question and an answer", repr(turns))
        said += [Message("user", exchange[0]), Message("assistant", exchange[1])]
    return said
