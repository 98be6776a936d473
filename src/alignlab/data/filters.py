"""Filter self-written prompts by length, words, beginning, and likeness to known ones.

The filters of Self-Instruct (arXiv 2212.10560, section 2.2 and the authors' code: over 3 and up to
150 words, barred words, no "Write a program", no first character that is punctuation or not ASCII,
ROUGE-L below 0.7), which arXiv 2401.10020 uses for its new prompts. The barred words are those of
the authors and of Alpaca. A kept prompt counts as known for those after it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alignlab.data.similarity import SimilarityIndex
from alignlab.data.split_dedupe import STAGE
from alignlab.errors import BadInput
from alignlab.text import trimmed
from alignlab.types import Count, Prompt

IMPOSSIBLE_FOR_TEXT = (
    "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps",
    "draw", "plot", "go to", "video", "audio", "music", "flowchart", "diagram",
)  # fmt: skip


@dataclass(frozen=True)
class FilterConfig:
    """Set when a new prompt is dropped."""

    max_similarity: float = 0.7
    """ROUGE-L F-measure to a known prompt from which a new one is a repetition; above 1, only
    exact duplicates are dropped."""
    min_words: int = 4
    """Fewest words of a prompt, split at white space."""
    max_words: int = 150
    """Most words of a prompt."""
    keywords: tuple[str, ...] = IMPOSSIBLE_FOR_TEXT
    """Words or phrases, in any case, that bar a prompt."""
    barred_starts: tuple[str, ...] = ("Write a program",)
    """Beginnings, in any case, that bar a prompt."""
    plain_start: bool = True
    """Drop prompts that start with punctuation or a character outside ASCII; false for prompts in
    scripts other than Latin."""

    def __post_init__(self) -> None:
        if self.max_similarity <= 0:
            found = self.max_similarity
            raise BadInput(f"setting max_similarity: expected a number above 0, found {found}")
        if not 0 <= self.min_words <= self.max_words:
            raise BadInput(
                f"setting min_words: expected 0 to max_words ({self.max_words}), "
                f"found {self.min_words}"
            )


@dataclass(frozen=True)
class Refused:
    """A prompt that was dropped, and why."""

    prompt: Prompt
    reason: str
    detail: str = ""
    """The barred word, or the known prompt that it resembles and how much."""


@dataclass(frozen=True)
class Filtered:
    """The outcome for every prompt that came in, in order."""

    kept: tuple[Prompt, ...]
    refused: tuple[Refused, ...]
    count: Count


def filter_prompts(
    new: Sequence[Prompt], known: Sequence[Prompt], config: FilterConfig | None = None
) -> Filtered:
    """Keep the new prompts that pass every filter, each judged by its last user turn.

    The order of the checks is empty, length, keyword, beginning, duplicate, similarity; the first
    that fails is the reason.
    """
    config = config or FilterConfig()
    barred = _pattern(config.keywords)
    texts = [prompt.text for prompt in known]
    duplicates = {_plain(text) for text in texts}
    index = SimilarityIndex(texts if config.max_similarity <= 1 else ())
    kept: list[Prompt] = []
    refused: list[Refused] = []
    for prompt in new:
        found = _unfit(prompt, config, barred)
        if found is None and _plain(prompt.text) in duplicates:
            found = Refused(prompt, "duplicate")
        if found is None and config.max_similarity <= 1:
            near = index.nearest(prompt.text, config.max_similarity)
            if near is not None:
                detail = f"{near.score:.2f}: {texts[near.index]}"
                found = Refused(prompt, "similar to a known prompt", detail)
        if found is not None:
            refused.append(found)
            continue
        kept.append(prompt)
        texts.append(prompt.text)
        duplicates.add(_plain(prompt.text))
        if config.max_similarity <= 1:
            index.add(prompt.text)
    reasons = Counter(each.reason for each in refused)
    return Filtered(
        tuple(kept), tuple(refused), Count(STAGE, "new prompts", len(kept), dict(reasons))
    )


def _unfit(prompt: Prompt, config: FilterConfig, barred: re.Pattern[str] | None) -> Refused | None:
    text = trimmed(prompt.text)
    words = len(text.split())
    if not words:
        return Refused(prompt, "empty")
    if words < config.min_words:
        return Refused(prompt, "too short", f"{words} words")
    if words > config.max_words:
        return Refused(prompt, "too long", f"{words} words")
    hit = barred.search(prompt.text) if barred else None
    if hit:
        return Refused(prompt, "barred keyword", hit[0].lower())
    for start in config.barred_starts:
        if " ".join(text.split()).lower().startswith(start.lower()):
            return Refused(prompt, "barred beginning", start)
    if config.plain_start and (text[0] in string.punctuation or not text[0].isascii()):
        return Refused(prompt, "starts with punctuation or outside ASCII", text[0])
    return None


def _pattern(keywords: Sequence[str]) -> re.Pattern[str] | None:
    if not keywords:
        return None
    alternatives = "|".join(re.escape(word) for word in keywords)
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE)


def _plain(text: str) -> str:
    """Case, white space and end marks do not make a prompt new."""
    return " ".join(text.lower().split()).rstrip(" .?!")
