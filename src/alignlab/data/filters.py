"""Filter self-written prompts by length, keywords, first words and similarity to known prompts.

The filters of Self-Instruct (arXiv 2212.10560, section 2.2 and the authors' code: over 3 and up to
150 words, keywords, no "Write a program", no first character that is punctuation or not ASCII,
ROUGE-L below 0.7), which arXiv 2401.10020 uses for its new prompts. The keywords are those of the
authors and of Alpaca. An accepted prompt is known to later ones.
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
    """Thresholds of the prompt filters."""

    max_similarity: float = 0.7
    """ROUGE-L F-measure to a known prompt from which a prompt is dropped; above 1, only exact
    duplicates are dropped."""
    min_words: int = 4
    """Minimum number of words, split at white space."""
    max_words: int = 150
    """Maximum number of words, split at white space."""
    keywords: tuple[str, ...] = IMPOSSIBLE_FOR_TEXT
    """Words or phrases that drop a prompt, ignoring case."""
    barred_starts: tuple[str, ...] = ("Write a program",)
    """First words that drop a prompt, ignoring case."""
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
    """Dropped prompt with the reason."""

    prompt: Prompt
    reason: str
    detail: str = ""
    """Matched keyword, or score and text of the similar prompt."""


@dataclass(frozen=True)
class Filtered:
    """Result of filtering, in input order."""

    kept: tuple[Prompt, ...]
    refused: tuple[Refused, ...]
    count: Count


def filter_prompts(
    new: Sequence[Prompt], known: Sequence[Prompt], config: FilterConfig | None = None
) -> Filtered:
    """Filter new prompts by their last user turn.

    The reason of a dropped prompt is the first failed check, in the order empty, length, keyword,
    first words, duplicate, similarity.
    """
    config = config or FilterConfig()
    barred = _pattern(config.keywords)
    texts = [prompt.text for prompt in known]
    duplicates = {_plain(text) for text in texts}
    index = SimilarityIndex(texts if config.max_similarity <= 1 else ())
    kept: list[Prompt] = []
    refused: list[Refused] = []
    for prompt in new:
        refusal = _unfit(prompt, config, barred)
        if refusal is None and _plain(prompt.text) in duplicates:
            refusal = Refused(prompt, "duplicate")
        if refusal is None and config.max_similarity <= 1:
            near = index.nearest(prompt.text, config.max_similarity)
            if near is not None:
                detail = f"{near.score:.2f}: {texts[near.index]}"
                refusal = Refused(prompt, "similar to a known prompt", detail)
        if refusal is not None:
            refused.append(refusal)
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
    """Normalise case, white space and end marks, to find duplicates."""
    return " ".join(text.lower().split()).rstrip(" .?!")
