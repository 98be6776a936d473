"""Take Prometheus's evaluation prompt apart (arXiv 2310.08491, 2405.01535)."""

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
    """What the judge is shown."""

    asked: str
    answered: str
    reference: str | None


def rubric_prompt(row: Row, field: str) -> RubricPrompt:
    """Read the instruction, the response and the reference out of a prompt.

    A text may hold lines that look like headings: only the known ones count, in their order.

    Raises:
        BadInput: the field holds no such prompt.
    """
    text = row.text(field)
    parts: dict[str, str] = {}
    start, name = 0, ""
    for found in _SECTION.finditer(text):
        heading = found[1].strip()
        later = _ORDER[_ORDER.index(name) + 1 :] if name else (ASKED,)
        if heading not in later:
            continue
        if name:
            parts[name] = text[start : found.start()].strip()
        start, name = found.end(), heading
    if not {ASKED, ANSWERED} <= parts.keys():
        raise row.bad(field, f"a prompt with ###{ASKED}:, ###{ANSWERED}: and ###{RUBRIC}:")
    return RubricPrompt(parts[ASKED], parts[ANSWERED], parts.get(REFERENCE) or None)
