"""Given texts as continuations of requests, ready for the packed scorer."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.errors import BadInput
from alignlab.models import chat_template
from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup
from alignlab.types import CompletionRequest


def continuations(
    lm: LanguageModel, request: CompletionRequest, texts: Sequence[str], *, end_of_turn: bool
) -> TokenGroup | None:
    """A request's prompt with the tokens of texts that continue it; None where it is empty.

    Prefix and text are tokenised together ("Score: " and "4" may meet in the token " 4"). The
    condition ends where the tokens of a text leave those of the prefix by itself, the same place
    for all texts.

    Raises:
        BadInput: there is no text, or an empty one.
    """
    if not texts or any(not text for text in texts):
        raise BadInput(
            f"request {request.id!r}: expected texts that are not empty, found {list(texts)}"
        )
    whole = [request.prefix + text for text in texts]
    ids = [list(i) for i in lm.tokenizer(whole, add_special_tokens=False)["input_ids"]]
    condition = chat_template.encode_prompt(lm, request.messages)
    if request.prefix:
        alone = lm.tokenizer(request.prefix, add_special_tokens=False)["input_ids"]
        common = _common([alone, *(tokens[:-1] for tokens in ids)])
        condition += alone[:common]
        ids = [tokens[common:] for tokens in ids]
    end = (chat_template.end_of_turn(lm),) if end_of_turn else ()
    if not condition:
        return None
    return TokenGroup(request.id, tuple(condition), tuple((*tokens, *end) for tokens in ids))


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows start with."""
    length = 0
    for tokens in zip(*rows, strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return length
