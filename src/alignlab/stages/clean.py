"""Drop repeated sentences from responses before a teacher corrects them (arXiv 2407.00087)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alignlab.context import RunContext
from alignlab.text import sentence_ends
from alignlab.types import Count, Response

REPEATED = "repeated sentences dropped"


def drop_repeated(
    context: RunContext, responses: Sequence[Response], *, name: str = "clean"
) -> list[Response]:
    """Return the responses without sentences equal to an earlier one; changed ones are counted."""
    with context.run.stage(name) as stage:
        cleaned = [replace(r, text=without_repeated(r.text)) for r in responses]
        if not stage.done:
            changed = sum(a.text != b.text for a, b in zip(cleaned, responses, strict=True))
            kinds = {REPEATED: changed} if changed else {}
            stage.count([Count(stage.name, "responses", len(cleaned), {}, kinds)])
        return cleaned


def without_repeated(text: str) -> str:
    """Drop each sentence that equals an earlier one, ignoring case and white space."""
    kept: list[str] = []
    seen: set[str] = set()
    start = 0
    for end in sentence_ends(text):
        key = " ".join(text[start:end].lower().split())
        if key not in seen:
            kept.append(text[start:end])
        seen.add(key)
        start = end
    return ("".join(kept) + text[start:]).lstrip()
