"""Find the place of the final answer in a response: the last marker, and what follows it.

Markers: `#### n`, `### Answer:`, `<answer>...</answer>`, `\\boxed{...}`, "Answer:", "the answer
is".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_BOXED = re.compile(r"\\f?boxed\s*(?=\{)")
_HASHES = re.compile(r"^[ \t]*#{4}[ \t]+(?!#)(.+)$", re.MULTILINE)
_WORDS = re.compile(
    r"\banswer\b(?:[^\n.:=]{0,60}?\s(?:is|would be|should be|must be)\b"
    r"|[^\n.:=\w]{0,4}(?=[:=\uff1a]))"
    r"(?:[*_\s]*[:=\uff1a])?[*_]*",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"\W*(?:not|n't|no longer|wrong|incorrect|unknown|unclear)\b", re.IGNORECASE
)
_RETRACTED = re.compile(
    r"(?:^|[\s(,.!;])(?:wait|actually|correction|sorry|scratch that|on second thought)\b",
    re.IGNORECASE,
)


class Marked(NamedTuple):
    """Text that follows a marker of the final answer."""

    start: int
    """Position of the marker."""
    text: str
    end: int
    """Position after the text."""
    kind: str
    """"tag", "boxed", "hashes" or "words"."""


def marked(text: str) -> list[Marked]:
    """List the marked answers of a text, the last one first; retracted ones are left out."""
    found = [*_tags(text), *_boxes(text), *_lines(text), *_worded(text)]
    standing = [m for m in found if m.text.strip() and not _retracted(m, text)]
    return sorted(standing, key=lambda m: -m.start)


def _retracted(mark: Marked, text: str) -> bool:
    return bool(_RETRACTED.search(text, mark.start if mark.kind == "words" else mark.end))


def explicit(text: str) -> str:
    """Return the answer that a reference marks by ####, \\boxed or a tag; else the whole text.

    On a single line, words ("The answer is 5") and #### anywhere mark it too.
    """
    found = [m for m in marked(text) if m.kind != "words"]
    if not found and "\n" not in text.strip():
        if "####" in text:
            return text.rpartition("####")[2].strip()
        if re.fullmatch(r"\\boxed\s*\{\s*\}", text.strip()):
            return ""
        found = marked(text)
    if not found:
        worded = re.search(r"^#{2,4}\s*answer\s*:\s*(.+)$", text, re.IGNORECASE | re.MULTILINE)
        return (worded[1] if worded else text).strip()
    return found[0].text.strip()


def _tags(text: str) -> Iterator[Marked]:
    for match in _TAG.finditer(text):
        yield Marked(match.start(), match[1], match.end(), "tag")


def _boxes(text: str) -> Iterator[Marked]:
    for match in _BOXED.finditer(text):
        depth = 0
        for at in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if not depth:
                yield Marked(match.start(), text[match.end() + 1 : at], at + 1, "boxed")
                break


def _lines(text: str) -> Iterator[Marked]:
    for match in _HASHES.finditer(text):
        yield Marked(match.start(), match[1], match.end(), "hashes")


def _worded(text: str) -> Iterator[Marked]:
    for match in _WORDS.finditer(text):
        # The answer may stand on the next line that has words: "**Answer:**\n18".
        line = re.compile(r"\s*(?:\\\[\s*)?([^\n]+)").match(text, match.end())
        if line is not None and not _NO_ANSWER.match(line[1]):
            yield Marked(match.start(), line[1], line.end(), "words")
