"""Ask a text-to-text model which of two responses is better, "A" or "B" (SteamSHP's form).

Format of the models trained on Stanford Human Preferences (arXiv 2110.08420): one text holds the
post, two responses and the question; the first token of the answer is the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from alignlab.models.load import device_of
from alignlab.models.locate import locate
from alignlab.models.weight_files import read_whole_model, reading
from alignlab.types import Unscored

AT_ONCE = 16
"""Batch size of a forward pass, in questions."""


@dataclass(frozen=True)
class Choice:
    """Probabilities of "A" and "B" as first token of the answer, among all tokens."""

    a: float
    b: float


@dataclass(frozen=True)
class WhichBetter:
    """Text-to-text model (T5) with its tokenizer."""

    model: Any
    tokenizer: Any
    max_tokens: int
    """Longest question; a longer post is truncated at its end, responses never are."""

    def choices(self, asked: Sequence[tuple[str, str, str]]) -> list[Choice | Unscored]:
        """Compute the probabilities of "A" and "B" for each (post, response A, response B)."""
        found: list[Choice | Unscored] = []
        for start in range(0, len(asked), AT_ONCE):
            texts = [self._fitting(*one) for one in asked[start : start + AT_ONCE]]
            made = iter(self._probabilities([t for t in texts if t is not None]))
            too_long = Unscored(f"the responses alone are longer than {self.max_tokens} tokens")
            found += [too_long if text is None else next(made) for text in texts]
        return found

    def _probabilities(self, texts: Sequence[str]) -> list[Choice]:
        if not texts:
            return []
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.model.device)
        first = torch.full((len(texts), 1), self.model.config.decoder_start_token_id)
        with torch.no_grad():
            made = self.model(**tokens, decoder_input_ids=first.to(self.model.device))
        shares_NV = torch.softmax(made.logits[:, 0].double(), dim=1)
        a, b = (self.tokenizer(t, add_special_tokens=False)["input_ids"][-1] for t in "AB")
        return [Choice(float(p[a]), float(p[b])) for p in shares_NV]

    def _fitting(self, post: str, one: str, other: str) -> str | None:
        """Return the question, its post truncated to fit; None where the responses do not fit."""
        words = post.split(" ")
        while True:
            text = question(" ".join(words), one, other)
            over = self._length(text) - self.max_tokens
            if over <= 0:
                return text
            if not words:
                return None
            # A word is at least one token: one pass is usually enough.
            words = words[: max(0, len(words) - over)]

    def _length(self, text: str) -> int:
        return len(self.tokenizer(text)["input_ids"])


def question(post: str, one: str, other: str) -> str:
    """Format a question; line breaks inside its parts become blanks."""
    post, one, other = (part.replace("\n", " ") for part in (post, one, other))
    parts = (f"POST: {post}", f"RESPONSE A: {one}", f"RESPONSE B: {other}")
    return "\n\n ".join((*parts, "Which response is better? RESPONSE"))


def open_which_better(
    spec: str | Path, *, max_tokens: int, device: str | None = None
) -> WhichBetter:
    """Open a text-to-text model from a local folder or the hub.

    Raises:
        BadInput: no such model, or it is not text-to-text.
    """
    folder = locate(spec)
    with reading("a text-to-text model", folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = read_whole_model(AutoModelForSeq2SeqLM, folder)
    model.to(device_of(device)).eval()
    return WhichBetter(model, tokenizer, max_tokens)
