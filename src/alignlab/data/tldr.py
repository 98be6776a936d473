"""TL;DR comparisons (arXiv 2009.01325): two summaries of a post, and the chosen one.

The prompt is the paper's: subreddit, title, post, `TL;DR:`.
"""

from __future__ import annotations

from dataclasses import dataclass

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    Dropped,
    Origin,
    ResponseDraft,
    held_out,
    pair,
    user,
)
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.text import trimmed


@dataclass(frozen=True)
class TldrOptions(Options):
    """Options of the TL;DR comparisons."""

    min_confidence: int | None = None
    """Minimum confidence of the annotator, 1 to 9; drops comparisons without a confidence."""


@row_format("tldr", columns=[("info", "summaries", "choice")], options=TldrOptions)
def tldr(row: Row, options: TldrOptions) -> list[BuildResult]:
    """Pairs of summaries; those of the `valid` splits are held out."""
    summaries = row.rows("summaries")
    if len(summaries) != 2:
        raise row.bad("summaries", "two summaries")
    if options.min_confidence is not None:
        confidence = _confidence(row)
        if confidence is None:
            return [Dropped("no confidence given")]
        if confidence < options.min_confidence:
            return [Dropped("confidence below min_confidence")]
    answers = [
        ResponseDraft(
            each.text("text").strip(), -rank, each.optional_text("policy") or UNKNOWN_WRITER
        )
        for rank, each in enumerate(_best_first(row, summaries))
    ]
    result = pair(user(asked(row.row("info"))), answers[0], answers[1], Origin("tldr"))
    return [held_out(result, (row.optional_text("split") or "").startswith(("valid", "test")))]


def asked(info: Row) -> str:
    """Build the summarisation prompt of a Reddit post or a news article; empty without its text."""
    if not trimmed(info.text("post" if info.has("post") else "article")):
        return ""
    if not info.has("post"):
        return f"Article:\n{info.text('article')}\n\nTL;DR:"
    lines = [
        f"SUBREDDIT: r/{info.text('subreddit')}" if info.has("subreddit") else "",
        f"TITLE: {info.text('title')}" if info.has("title") else "",
        f"POST: {info.text('post')}",
    ]
    return "\n".join(line for line in lines if line) + "\nTL;DR:"


def _best_first(row: Row, summaries: list[Row]) -> list[Row]:
    return summaries if row.whole("choice", range(2)) == 0 else summaries[::-1]


def _confidence(row: Row) -> float | None:
    extra = row.row("extra") if row.has("extra") else None
    return extra.number("confidence") if extra and extra.has("confidence") else None
