"""Find texts that are hardly what an author wrote, to be counted: empty cells, repeated prompts."""

from __future__ import annotations

import re

from alignlab.data.build_records import Record
from alignlab.data.split_dedupe import prompt_of
from alignlab.data.templated import texts_of

EMPTY_CELL = "text that is a tool's empty cell or error (nan, None, #REF!)"
REPEATED = "answer that opens with the whole prompt"
_CELL = re.compile(
    r"\s*(nan|null|none|nat|<na>|n/a|#(n/a|ref!|name\?|value!|div/0!|num!|null!))\s*", re.IGNORECASE
)
_LEAST = 8
"""Fewest characters of a prompt that an answer does not open with by chance."""


def remarks_on(record: Record) -> list[str]:
    """List the remarks on a record's texts, for the counts."""
    asked = prompt_of(record).messages
    texts = texts_of(record)
    answers, question = texts[len(asked) :], asked[-1].content.strip()
    found = [EMPTY_CELL] if any(_CELL.fullmatch(text) for text in texts) else []
    if answers and len(question) >= _LEAST and all(_opens(a.lstrip(), question) for a in answers):
        found.append(REPEATED)
    return found


def _opens(answer: str, question: str) -> bool:
    return len(answer) > len(question) and answer.startswith(question)
