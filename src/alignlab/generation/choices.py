"""Log-probabilities of given texts as continuations of a prompt, and their tokens.

Prefix and text are tokenised together, as in the text a model was trained on ("Score: 4" may end
in the token " 4"); the tokens that all choices share belong to the condition. Choices that differ
in one token, scores for example, take one forward per request; long texts go to a packed scorer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignlab.errors import BadInput
from alignlab.generation.forward import last_logits
from alignlab.models.chat_template import encode_prompt
from alignlab.models.chat_template import end_of_turn as end_of_turn_token
from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup
from alignlab.types import CompletionRequest


@dataclass(frozen=True)
class ChoiceTokens:
    """Tokens of one request's shared condition, and of each choice after it."""

    shared: tuple[int, ...]
    tails: tuple[tuple[int, ...], ...]
    """Tokens of each choice after the shared ones; never empty."""


def split_choices(prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> ChoiceTokens:
    """Move the tokens that all continuations start with to the prompt."""
    common = _common([c[:-1] for c in continuations])
    return ChoiceTokens(
        shared=(*prompt, *continuations[0][:common]),
        tails=tuple(tuple(c[common:]) for c in continuations),
    )


def tokenise_choices(
    lm: LanguageModel, request: CompletionRequest, choices: Sequence[str], *, context: int
) -> ChoiceTokens | None:
    """Tokenise a request's choices; None where its prompt is empty or some choice does not fit.

    Raises:
        BadInput: there is no choice, or an empty one.
    """
    if not choices or any(not choice for choice in choices):
        raise BadInput(f"choices: expected texts that are not empty, found {list(choices)}")
    prompt = encode_prompt(lm, request.messages)
    texts = [request.prefix + choice for choice in choices]
    ids = lm.tokenizer(texts, add_special_tokens=False)["input_ids"]
    if not prompt or len(prompt) + max(map(len, ids)) > context:
        return None
    return split_choices(prompt, ids)


def choice_logprobs(
    model: Any, items: Sequence[ChoiceTokens], *, batch_size: int
) -> list[tuple[float, ...]]:
    """Return the log-probability in nats of each choice, for each item (see `without_longer`)."""
    results: list[tuple[float, ...]] = [()] * len(items)
    single = [i for i, item in enumerate(items) if all(len(t) == 1 for t in item.tails)]
    for chunk in _by_length(single, [len(items[i].shared) for i in single], batch_size):
        logits_PV = last_logits(model, [items[i].shared for i in chunk])[:, 0].float()
        logps_PV = logits_PV.log_softmax(dim=-1)
        for row, i in enumerate(chunk):
            picked = logps_PV[row, [t[0] for t in items[i].tails]]
            results[i] = tuple(picked.tolist())
    chosen = set(single)
    for i in (i for i in range(len(items)) if i not in chosen):
        results[i] = _long_choices(model, items[i], batch_size)
    return results


def _long_choices(model: Any, item: ChoiceTokens, batch_size: int) -> tuple[float, ...]:
    distinct = sorted(set(item.tails))
    logps: dict[tuple[int, ...], float] = {}
    for chunk in _by_length(list(range(len(distinct))), [len(t) for t in distinct], batch_size):
        longest = max(len(distinct[i]) for i in chunk)
        rows = [item.shared + distinct[i] for i in chunk]
        logps_PTV = last_logits(model, rows, keep=longest + 1).double().log_softmax(dim=-1)
        for row, i in enumerate(chunk):
            tail = distinct[i]
            places = torch.arange(longest - len(tail), longest, device=logps_PTV.device)
            ids = torch.tensor(tail, device=logps_PTV.device)
            logps[tail] = float(logps_PTV[row, places, ids].sum())
    return without_longer(item, logps)


def without_longer(item: ChoiceTokens, logps: Mapping[tuple[int, ...], float]) -> tuple[float, ...]:
    """Return the log-probability in nats of each choice, from those of the distinct tails.

    A choice whose tokens begin another's ("1" and "10" where digits are tokens) counts only where
    the longer one does not follow.
    """
    return tuple(_alone(tail, logps) for tail in item.tails)


def _alone(tail: tuple[int, ...], logps: Mapping[tuple[int, ...], float]) -> float:
    longer = sum(
        math.exp(logp - logps[tail])
        for other, logp in logps.items()
        if len(other) > len(tail) and other[: len(tail)] == tail
    )
    return logps[tail] + math.log1p(-longer) if longer < 1 else -math.inf


def _by_length(items: Sequence[int], lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    order = sorted(range(len(items)), key=lambda k: (lengths[k], k))
    chosen = [items[k] for k in order]
    return [chosen[k : k + batch_size] for k in range(0, len(chosen), batch_size)]


def continuations(
    lm: LanguageModel, request: CompletionRequest, texts: Sequence[str], *, end_of_turn: bool
) -> TokenGroup | None:
    """Tokenise a request's prompt with texts that continue it; None where the prompt is empty.

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
    condition = encode_prompt(lm, request.messages)
    if request.prefix:
        alone = lm.tokenizer(request.prefix, add_special_tokens=False)["input_ids"]
        common = _common([alone, *(tokens[:-1] for tokens in ids)])
        condition += alone[:common]
        ids = [tokens[common:] for tokens in ids]
    end = (end_of_turn_token(lm),) if end_of_turn else ()
    if not condition:
        return None
    return TokenGroup(request.id, tuple(condition), tuple((*tokens, *end) for tokens in ids))


def _common(rows: Sequence[Sequence[int]]) -> int:
    """Count the tokens that all rows start with."""
    length = 0
    for tokens in zip(*rows, strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return length
