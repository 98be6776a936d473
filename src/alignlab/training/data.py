"""Records to token groups: what is too long is dropped or cut, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from alignlab.models.chat import encode_prompt, encode_response
from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup
from alignlab.types import Count, Demonstration, PreferenceGroup, Response


class Prepared(NamedTuple):
    """Tokenised groups, and how many records became one."""

    groups: list[TokenGroup]
    tally: Count


def prepare(
    lm: LanguageModel,
    records: Sequence[Demonstration | PreferenceGroup],
    *,
    max_prompt_tokens: int = 1024,
    max_response_tokens: int = 1024,
    too_long: Literal["drop", "cut"] = "drop",
) -> Prepared:
    """Tokenise demonstrations and preference groups for training.

    Args:
        lm: whose tokenizer and chat template are used.
        records: demonstrations become groups of one response.
        max_prompt_tokens: longest prompt.
        max_response_tokens: longest response, its end-of-turn token included.
        too_long: "drop" leaves a record with a longer prompt or response out; "cut" keeps the
            last tokens of a prompt and the first of a response (then without end of turn).
    """
    groups: list[TokenGroup] = []
    dropped: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for record in records:
        prompt = encode_prompt(lm, record.prompt.messages)
        responses = [encode_response(lm, r.text) for r in _responses(record)]
        long_prompt = len(prompt) > max_prompt_tokens
        long_response = any(len(r) > max_response_tokens for r in responses)
        if too_long == "drop" and (long_prompt or long_response):
            dropped["prompt too long" if long_prompt else "response too long"] += 1
            continue
        changed.update(["prompt cut"] * long_prompt + ["response cut"] * long_response)
        groups.append(
            TokenGroup(
                record.id,
                tuple(prompt[-max_prompt_tokens:]),
                tuple(tuple(r[:max_response_tokens]) for r in responses),
                record.scores if isinstance(record, PreferenceGroup) else (0.0,),
            )
        )
    return Prepared(groups, Count("train", "groups", len(groups), dict(dropped), dict(changed)))


def _responses(record: Demonstration | PreferenceGroup) -> tuple[Response, ...]:
    return record.responses if isinstance(record, PreferenceGroup) else (record.response,)
