"""Conversations to tokens: prompt and response are tokenised apart.

So the boundary between them is the same for every response to a prompt (the packed forward and
the sampler share the prompt), and what the model is trained to continue is what it is asked to
continue. The template writes the beginning-of-sequence token where it wants one; none is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from alignlab.errors import BadInput
from alignlab.models.load import LanguageModel
from alignlab.types import Message

_PROBE = "Zq7"
"""Content of the turn by which the template's end-of-turn token is found."""


def encode_prompt(lm: LanguageModel, messages: Sequence[Message], prefix: str = "") -> list[int]:
    """Tokens of a conversation up to where the assistant's answer starts, then of the prefix.

    Without messages the prefix alone, as plain text that a base model continues.
    """
    if not messages:
        start = lm.tokenizer.bos_token_id
        return ([] if start is None else [start]) + _ids(lm.tokenizer, prefix)
    text = _render(lm.tokenizer, messages, add_generation_prompt=True)
    return _ids(lm.tokenizer, text) + (_ids(lm.tokenizer, prefix) if prefix else [])


def encode_response(lm: LanguageModel, text: str) -> list[int]:
    """Tokens of an answer, the end-of-turn token included."""
    return [*_ids(lm.tokenizer, text), end_of_turn(lm)]


def end_of_turn(lm: LanguageModel) -> int:
    """The token that ends the assistant's turn in the chat template; else end-of-sequence."""
    return _end_of_turn(lm.tokenizer, lm.tokenizer.chat_template)


def stop_tokens(lm: LanguageModel) -> frozenset[int]:
    """All tokens after which the model has nothing more to say."""
    found = {end_of_turn(lm), lm.tokenizer.eos_token_id}
    config = getattr(lm.model, "generation_config", None)
    eos = getattr(config, "eos_token_id", None)
    found.update(eos if isinstance(eos, list) else [eos])
    return frozenset(token for token in found if token is not None)


def _render(tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
    turns = [{"role": m.role, "content": m.content} for m in messages]
    text: str = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@lru_cache(maxsize=32)
def _end_of_turn(tokenizer: Any, template: str) -> int:
    """What the template writes after an assistant's turn, its first special token."""
    turns = [Message("user", _PROBE), Message("assistant", _PROBE)]
    text = _render(tokenizer, turns, add_generation_prompt=False)
    special = set(tokenizer.all_special_ids) | {
        i for i, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    for token in _ids(tokenizer, text[text.rindex(_PROBE) + len(_PROBE) :]):
        if token in special:
            return token
    if tokenizer.eos_token_id is None:
        raise BadInput(
            "the chat template ends a turn with no special token and the tokenizer "
            "has no end-of-sequence token; give a template with chat_template=FILE"
        )
    return int(tokenizer.eos_token_id)


def template_end(lm: LanguageModel) -> list[int]:
    """What the chat template writes after the token that ends an assistant's turn."""
    turns = [Message("user", _PROBE), Message("assistant", _PROBE)]
    text = _render(lm.tokenizer, turns, add_generation_prompt=False)
    written = _ids(lm.tokenizer, text[text.rindex(_PROBE) + len(_PROBE) :])
    end = end_of_turn(lm)
    return written[written.index(end) + 1 :] if end in written else []
