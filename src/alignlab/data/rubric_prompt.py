"""Parse Prometheus's evaluation prompt (arXiv 2310.08491, 2405.01535)."""

from __future__ import annotations

import re
from typing import NamedTuple

from alignlab.data.rows import Row

_SECTION = re.compile(r"^###(?=\S)([^\n]*?):[ \t]*$", re.MULTILINE)
ASKED, ANSWERED = "The instruction to evaluate", "Response to evaluate"
REFERENCE = "Reference Answer (Score 5)"
RUBRIC = "Score Rubrics"
_ORDER = (ASKED, ANSWERED, REFERENCE, RUBRIC)


class RubricPrompt(NamedTuple):
    """Instruction, response and reference of an evaluation prompt."""

    asked: str
    answered: str
    reference: str | None


def rubric_prompt(row: Row, field: str) -> RubricPrompt:
    """Parse the instruction, the response and the reference of an evaluation prompt.

    Only the known headings in their order count, as texts may contain lines like headings.

    Raises:
        BadInput: the field is not an evaluation prompt.
    """
    text = row.text(field)
    parts: dict[str, str] = {}
    start, name = 0, ""
    for section in _SECTION.finditer(text):
        heading = section[1].strip()
        later = _ORDER[_ORDER.index(name) + 1 :] if name else (ASKED,)
        if heading not in later:
            continue
        if name:
            parts[name] = text[start : section.start()].strip()
        start, name = section.end(), heading
    if not {ASKED, ANSWERED} <= parts.keys():
        raise row.bad(field, f"a prompt with ###{ASKED}:, ###{ANSWERED}: and ###{RUBRIC}:")
    return RubricPrompt(parts[ASKED], parts[ANSWERED], parts.get(REFERENCE) or None)
