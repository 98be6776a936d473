"""Tell the verdicts that a reply gives from those that it only mentions.

Judges repeat the form they were asked for ("end with Better: A, Better: B or Better: tie"), quote a
rubric, deny a verdict or make it depend on something. What is mentioned is dropped; two different
verdicts in one sentence are one that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

_QUOTED = re.compile(
    r"\b(?:for\s+(?:example|instance)|e\.\s?g\.|such\s+as|(?:formats?|form)(?:\s+of)?|not|never|rather\s+than"
    r"|instead\s+of|would\s+be)(?:\s+(?:is|give(?:\s+it)?|an?))*[\s,:;(\"'“‘*_`]*$",
    re.IGNORECASE,
)
"""Words before a verdict that is an example, or denied."""
_VALUE = r"[\s\[(\"'“‘*_`$<]*(?:(?:answer|assistant|response|model|option)[ \t]+)?\w[\w.]*(?:/\d+)?"
_CONDITION = (
    r"[\])}\"'”’*_`$>]*[ \t]+"
    r"(?:if|would|means?|indicates?|requires|is\s+(?:only\s+)?(?:for|reserved))\b"
)
"""Words after a verdict that say when one would give it."""
_MEANING = r"[ \t]*(?:[-–—=:(]|for\b)[ \t]*[^\W\d_][^\n]*"
_SENTENCE_END = re.compile(
    r"[.!?](?=[\s\"'”’)\]]|$)|[。！？;\n]|\b(?:final\w*|verdict|therefore|thus)\b"
)


class Mention(NamedTuple):
    """Verdict in a reply, given or mentioned."""

    start: int
    end: int
    """End of a form; end of a label, whose value follows."""
    value: Any
    """Parsed value; None if unreadable."""
    is_label: bool

    @property
    def span(self) -> str:
        """Regular expression of what of the verdict follows `end`."""
        return _VALUE if self.is_label else ""


def given(text: str, mentions: Sequence[Mention]) -> list[Mention]:
    """Select the verdicts that a reply gives, in order.

    Different ones of one sentence become a single one without a value.
    """
    mentions = _merged(text, sorted(mentions, key=lambda one: one.start))
    listed = _rubric(text, mentions)
    found = []
    for sentence in _sentences(text, mentions):
        if any(m in listed or _is_conditional(text, m) for m in sentence):
            continue
        own = [m for m in sentence if not _QUOTED.search(text, _line(text, m), m.start)]
        if own:
            alike = len({m.value for m in own}) == 1
            found.append(own[-1] if alike else own[-1]._replace(value=None))
    return found


def _merged(text: str, mentions: Sequence[Mention]) -> list[Mention]:
    """Make one mention of a label and the form right after it."""
    found: list[Mention] = []
    for mention in mentions:
        last = found[-1] if found else None
        if last and last.is_label and not text[last.end : mention.start].strip(" \t\n*_`\"'$"):
            found[-1] = mention._replace(start=last.start)
        else:
            found.append(mention)
    return found


def _sentences(text: str, mentions: Sequence[Mention]) -> Iterator[list[Mention]]:
    """Group mentions, which are in order, by sentence."""
    group: list[Mention] = []
    for mention in mentions:
        if group and _SENTENCE_END.search(text, group[-1].end, mention.start):
            yield group
            group = []
        group.append(mention)
    if group:
        yield group


def _is_conditional(text: str, mention: Mention) -> bool:
    return re.compile(mention.span + _CONDITION).match(text, mention.end) is not None


def _rubric(text: str, mentions: Sequence[Mention]) -> list[Mention]:
    """Select labels on neighbouring lines, each with its meaning ("Score: 0 - irrelevant")."""
    labels = [m for m in mentions if m.is_label]
    found: list[Mention] = []
    for one, other in pairwise(labels):
        line = rf"{_VALUE}{_MEANING}"
        gap = re.compile(rf"{line}\n[ \t*•-]*").fullmatch(text, one.end, other.start)
        if gap and one.value != other.value and re.compile(line).match(text, other.end):
            found += [one, other]
    return found


def _line(text: str, mention: Mention) -> int:
    return text.rfind("\n", 0, mention.start) + 1
