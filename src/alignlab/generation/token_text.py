"""Decode sampled tokens to texts, alike for every engine that returns token ids."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.models.chat_template import stop_tokens
from alignlab.models.load import LanguageModel
from alignlab.turns import opened_thought, thought_marks

_TAG_TOKENS = 16
"""Last tokens of a prompt that can hold a reasoning tag and the white space after it."""


class TokenText:
    """Texts of a model's sampled tokens."""

    def __init__(self, lm: LanguageModel) -> None:
        self._tokenizer = lm.tokenizer
        self.end = stop_tokens(lm)
        """Tokens that end a response."""
        special = {
            number: token.content
            for number, token in lm.tokenizer.added_tokens_decoder.items()
            if token.special
        }
        marks = thought_marks(special.values())
        self._unseen = {n for n, text in special.items() if text not in marks} if marks else None

    def responses(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Decode whole responses, without the token that ended them."""
        return self.texts([ids[:-1] if ids[-1] in self.end else ids for ids in tokens])

    def texts(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Decode without special tokens, except those that mark reasoning."""
        if self._unseen is not None:
            tokens = [[t for t in ids if t not in self._unseen] for ids in tokens]
        texts: list[str] = self._tokenizer.batch_decode(
            tokens,
            skip_special_tokens=self._unseen is None,
            clean_up_tokenization_spaces=False,
        )
        return texts

    def opened(self, prompt: Sequence[int]) -> str:
        """Return the reasoning tag that a prompt opened, which belongs to its responses."""
        return opened_thought(self._tokenizer.decode(prompt[-_TAG_TOKENS:]))
