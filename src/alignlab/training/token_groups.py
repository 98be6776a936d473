"""Tokenise records into token groups; drop or truncate long ones, and count them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from alignlab.errors import BadInput
from alignlab.models.chat_template import (
    encode_prompt,
    encode_response,
    prompt_gap,
    special_in,
    templated,
)
from alignlab.models.load import LanguageModel, context_length
from alignlab.models.packed import TokenGroup
from alignlab.training.config import LengthSettings
from alignlab.training.schedule import derived_seed
from alignlab.types import (
    Count,
    CritiquedResponse,
    Demonstration,
    Message,
    PreferenceGroup,
    UnpairedPreference,
)

log = logging.getLogger(__name__)

FEEDBACK_REQUEST = "What do you think of this answer?"
"""User turn between a response and the feedback on it."""

REFUSED = "refused by the chat template, or holding it already"
"""Reason of a dropped record."""


class Prepared(NamedTuple):
    """Tokenised groups with the count of dropped and changed records."""

    groups: list[TokenGroup]
    tally: Count


@dataclass(frozen=True)
class Texts:
    """Untokenised group."""

    id: str
    messages: tuple[Message, ...]
    responses: tuple[str, ...]
    scores: tuple[float, ...]
    prefix: str = ""
    """Start of the assistant's turn; part of the prompt, not trained on."""
    probability: float | None = None
    """Probability that the first of two responses is the better one; None is a hard label."""


def prepare(
    lm: LanguageModel,
    records: Sequence[Demonstration | PreferenceGroup],
    *,
    drop_bad: bool = False,
    **lengths: Any,
) -> Prepared:
    """Tokenise demonstrations and preference groups for training.

    Args:
        lm: model whose tokenizer and chat template are used.
        records: records; a demonstration becomes a group of one response.
        drop_bad: drop and count records that the chat template refuses or that hold it already.
        lengths: settings of `LengthSettings`: max_prompt_tokens, max_response_tokens, too_long.

    Raises:
        BadInput: a record that the chat template refuses or that holds it, without drop_bad.
    """
    return tokenised(lm, [texts_of(r) for r in records], LengthSettings(**lengths), drop_bad)


def tokenised(
    lm: LanguageModel, texts: Sequence[Texts], lengths: LengthSettings, drop_bad: bool
) -> Prepared:
    """Tokenise texts (see `prepare`); drop those longer than the model's context."""
    if gap := prompt_gap(lm) if lm.tokenizer.chat_template else "":
        log.warning("%s: %s: answers are trained right after it", lm.name, gap)
    groups: list[TokenGroup] = []
    dropped: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for text in texts:
        try:
            whole = _encoded(lm, text)
        except BadInput as error:
            if not drop_bad:
                raise BadInput(f"{_named(text)}: {error}") from error
            dropped[REFUSED] += 1
            continue
        long_prompt = len(whole.prompt_T) > lengths.max_prompt_tokens
        long_response = any(len(r) > lengths.max_response_tokens for r in whole.responses)
        if lengths.too_long == "drop" and (long_prompt or long_response):
            dropped["prompt too long" if long_prompt else "response too long"] += 1
            continue
        group = replace(
            whole,
            prompt_T=_cut(whole.prompt_T, lengths.max_prompt_tokens, lm.tokenizer.bos_token_id),
            responses=tuple(r[: lengths.max_response_tokens] for r in whole.responses),
        )
        if len(set(group.responses)) < len(set(whole.responses)):
            dropped["responses equal once they are cut"] += 1
            continue
        if group.longest > context_length(lm):
            dropped["longer than the model's context"] += 1
            continue
        changed.update(["prompt cut"] * long_prompt + ["response cut"] * long_response)
        special = special_in(lm, [*(m.content for m in text.messages), *text.responses])
        changed.update(["special token in a text, as plain characters"] * special)
        groups.append(group)
    return Prepared(groups, Count("train", "groups", len(groups), dict(dropped), dict(changed)))


def _cut(prompt_T: tuple[int, ...], most: int, bos: int | None) -> tuple[int, ...]:
    """Return the last tokens of a prompt, after its token for the beginning of a text."""
    if len(prompt_T) <= most:
        return prompt_T
    start = prompt_T[:1] if prompt_T[0] == bos and most > 1 else ()
    return start + prompt_T[len(start) - most :]


def _encoded(lm: LanguageModel, text: Texts) -> TokenGroup:
    """Encode a group whole; refuse texts that hold the chat template."""
    prompt = encode_prompt(lm, text.messages, text.prefix)
    responses = tuple(tuple(encode_response(lm, r)) for r in text.responses)
    if (where := templated(lm, text.messages, text.responses)) is not None:
        raise BadInput(f"{where}: expected plain text, found the chat template in it")
    return TokenGroup(text.id, tuple(prompt), responses, text.scores, text.probability)


def _named(text: Texts) -> str:
    """Return a record's name for messages: its id and the start of its last turn."""
    last = " ".join(text.messages[-1].content.split()) if text.messages else text.prefix
    return f"record {text.id} ({last[:40]!r})"


def labelled_texts(records: Sequence[UnpairedPreference]) -> list[Texts]:
    """Return labelled responses as groups, with score 1 for desirable, 0 for undesirable."""
    return [
        Texts(r.id, r.prompt.messages, (r.response.text,), (float(r.desirable),)) for r in records
    ]


def commented_texts(records: Sequence[CritiquedResponse]) -> list[Texts]:
    """Return each response (score 0), and its feedback (score 1) as the assistant's next turn."""
    found: list[Texts] = []
    for record in records:
        asked, text = record.prompt.messages, record.response.text
        found.append(Texts(record.id, asked, (text,), (0.0,)))
        shown = (*asked, Message("assistant", text), Message("user", FEEDBACK_REQUEST))
        found.append(Texts(f"{record.id}|feedback", shown, (record.comment,), (1.0,)))
    return found


def with_mismatched(groups: Sequence[TokenGroup], *, seed: int) -> list[TokenGroup]:
    """Append another prompt's response to each group of one response, for KTO's KL estimate.

    The partner is the next group with another prompt in an order drawn from the seed. The appended
    response has score -1.

    Raises:
        BadInput: all groups have the same prompt.
    """
    rng = np.random.Generator(np.random.Philox(derived_seed("mismatch", seed)))
    order = [int(i) for i in rng.permutation(len(groups))]
    if len({g.prompt_T for g in groups}) < 2:
        raise BadInput(
            "train: expected labelled responses to two prompts or more, found one prompt"
        )
    partner: dict[int, int] = {}
    # Two backward passes over the circular order find the next other prompt of every position.
    following = order[0]
    other = following
    for i in reversed(order + order):
        if groups[i].prompt_T != groups[following].prompt_T:
            other = following
        partner[i] = other
        following = i
    return [
        replace(g, responses=(*g.responses, groups[partner[i]].responses[0]),
                scores=(*g.scores, -1.0))
        for i, g in enumerate(groups)
    ]  # fmt: skip


def texts_of(record: Demonstration | PreferenceGroup) -> Texts:
    """Return a record as an untokenised group; a demonstration has one response."""
    asked = record.prompt.messages
    if isinstance(record, PreferenceGroup):
        responses = tuple(r.text for r in record.responses)
        return Texts(record.id, asked, responses, record.scores, probability=record.probability)
    return Texts(record.id, asked, (record.response.text,), (0.0,))
