"""Log-probabilities of given texts as continuations of a prompt, and their tokens.

Prefix and text are tokenised together, as in the text a model was trained on ("Score: 4" may end
in the token " 4"); the tokens that all choices share belong to the condition. Every token of a
choice takes a row of its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from alignlab.errors import BadInput
from alignlab.generation.forward import last_logits
from alignlab.generation.next_token import NextTokenScorer, by_common_start, common_length, rows_of
from alignlab.models.chat_template import encode_prompt
from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup, by_group
from alignlab.models.scorer import read_groups
from alignlab.types import CompletionRequest


@dataclass(frozen=True)
class ChoiceTokens:
    """Tokens of one request's shared condition, and of each choice after it."""

    shared: tuple[int, ...]
    tails: tuple[tuple[int, ...], ...]
    """Tokens of each choice after the shared ones; never empty."""


def split_choices(prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> ChoiceTokens:
    """Move the tokens that all continuations start with to the prompt."""
    common = common_length([c[:-1] for c in continuations])
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
    scorer: NextTokenScorer, items: Sequence[ChoiceTokens], *, token_budget: int = 8192
) -> list[tuple[float, ...]]:
    """Return the log-probability in nats of each choice, for each item (see `without_longer`).

    Items that start alike, answers to one prompt under one rubric for example, share the tokens of
    their start.

    Args:
        scorer: scorer of the model.
        items: requests with their choices.
        token_budget: most tokens of one forward pass.
    """
    wanted: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for item in items:
        for tail in item.tails:
            for k, token in enumerate(tail):
                wanted[item.shared + tail[:k]].add(token)
    logps = _token_logps(scorer, wanted, token_budget)
    found = []
    for item in items:
        of_tail = {
            tail: math.fsum(logps[item.shared + tail[:k]][t] for k, t in enumerate(tail))
            for tail in set(item.tails)
        }
        found.append(without_longer(item, of_tail))
    return found


def _token_logps(
    scorer: NextTokenScorer, wanted: Mapping[tuple[int, ...], set[int]], token_budget: int
) -> dict[tuple[int, ...], dict[int, float]]:
    """Return the log-probability of each wanted token after each row of tokens."""

    def picked(logp_NV: Tensor, rows: Sequence[tuple[int, ...]]) -> list[dict[int, float]]:
        tokens = [sorted(wanted[row]) for row in rows]
        return [
            dict(zip(some, logp_NV[n, some].tolist(), strict=True)) for n, some in enumerate(tokens)
        ]

    def take(logp_NV: Tensor, groups: Sequence[TokenGroup]) -> list[tuple[dict[int, float], ...]]:
        return by_group(picked(logp_NV, rows_of(groups)), groups)

    rows = sorted(wanted)
    single = [row for row in rows if len(row) == 1]
    found: dict[tuple[int, ...], dict[int, float]] = {
        row: picked(last_logits(scorer.base, [row])[:, 0].float().log_softmax(-1), [row])[0]
        for row in single
    }
    groups = by_common_start([row for row in rows if len(row) > 1])
    scored = read_groups(scorer, groups, token_budget, take)
    for group, several in zip(groups, scored, strict=True):
        found.update(zip(rows_of([group]), several, strict=True))
    return found


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
