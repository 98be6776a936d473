"""Records to token groups: what is too long is dropped or cut, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from alignlab.errors import BadInput
from alignlab.models.chat_template import encode_prompt, encode_response, special_in, templated
from alignlab.models.load import LanguageModel, context_length
from alignlab.models.packed import TokenGroup
from alignlab.training.schedule import derived_seed
from alignlab.types import (
    Count,
    CritiquedResponse,
    Demonstration,
    Message,
    PreferenceGroup,
    UnpairedPreference,
)

FEEDBACK_REQUEST = "What do you think of this answer?"
"""The user's turn between a response and the feedback on it."""


REFUSED = "refused by the chat template, or holding it already"
"""Reason for which a record is left out."""


class Prepared(NamedTuple):
    """Tokenised groups, and how many records became one."""

    groups: list[TokenGroup]
    tally: Count


@dataclass(frozen=True)
class Texts:
    """One group before it is tokenised."""

    id: str
    messages: tuple[Message, ...]
    responses: tuple[str, ...]
    scores: tuple[float, ...]
    prefix: str = ""
    """Text that the assistant's turn starts with; part of the prompt, not learned."""


def prepare(
    lm: LanguageModel,
    records: Sequence[Demonstration | PreferenceGroup],
    *,
    max_prompt_tokens: int = 1024,
    max_response_tokens: int = 1024,
    too_long: Literal["drop", "cut"] = "drop",
    drop_bad: bool = False,
) -> Prepared:
    """Tokenise demonstrations and preference groups for training.

    Args:
        lm: whose tokenizer and chat template are used.
        records: demonstrations become groups of one response.
        max_prompt_tokens: longest prompt.
        max_response_tokens: longest response, its end-of-turn token included.
        too_long: "drop" leaves a record with a longer prompt or response out; "cut" keeps the
            last tokens of a prompt and the first of a response (then without end of turn).
        drop_bad: leave out what the chat template refuses or what holds it already, and count it.

    Raises:
        BadInput: such a record, which is named, where they are not dropped.
    """
    return tokenised(
        lm,
        [texts_of(record) for record in records],
        max_prompt_tokens=max_prompt_tokens,
        max_response_tokens=max_response_tokens,
        too_long=too_long,
        drop_bad=drop_bad,
    )


def tokenised(
    lm: LanguageModel,
    texts: Sequence[Texts],
    *,
    max_prompt_tokens: int = 1024,
    max_response_tokens: int = 1024,
    too_long: Literal["drop", "cut"] = "drop",
    drop_bad: bool = False,
) -> Prepared:
    """Tokenise texts (see `prepare`); what does not fit into the model's context is left out."""
    context = context_length(lm)
    groups: list[TokenGroup] = []
    dropped: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for text in texts:
        try:
            prompt = encode_prompt(lm, text.messages, text.prefix)
            responses = [encode_response(lm, r) for r in text.responses]
            if (where := templated(lm, text.messages, text.responses)) is not None:
                raise BadInput(f"{where}: expected plain text, found the chat template in it")
        except BadInput as error:
            if not drop_bad:
                raise BadInput(f"{_named(text)}: {error}") from error
            dropped[REFUSED] += 1
            continue
        long_prompt = len(prompt) > max_prompt_tokens
        long_response = any(len(r) > max_response_tokens for r in responses)
        if too_long == "drop" and (long_prompt or long_response):
            dropped["prompt too long" if long_prompt else "response too long"] += 1
            continue
        longest = max(min(len(r), max_response_tokens) for r in responses)
        if min(len(prompt), max_prompt_tokens) + longest > context:
            dropped["longer than the model's context"] += 1
            continue
        changed.update(["prompt cut"] * long_prompt + ["response cut"] * long_response)
        spelt = special_in(lm, [*(m.content for m in text.messages), *text.responses])
        changed.update(["special token in a text, as plain characters"] * spelt)
        groups.append(
            TokenGroup(
                text.id,
                tuple(prompt[-max_prompt_tokens:]),
                tuple(tuple(r[:max_response_tokens]) for r in responses),
                text.scores,
            )
        )
    return Prepared(groups, Count("train", "groups", len(groups), dict(dropped), dict(changed)))


def _named(text: Texts) -> str:
    """Name a record in a message: its id and the start of its last turn."""
    last = " ".join(text.messages[-1].content.split()) if text.messages else text.prefix
    return f"record {text.id} ({last[:40]!r})"


def labelled_texts(records: Sequence[UnpairedPreference]) -> list[Texts]:
    """Single responses; the score is 1 where it is desirable, 0 where not."""
    return [
        Texts(r.id, r.prompt.messages, (r.response.text,), (float(r.desirable),)) for r in records
    ]


def commented_texts(records: Sequence[CritiquedResponse]) -> list[Texts]:
    """Each response (score 0), and the feedback on it (score 1) as the assistant's next answer."""
    found: list[Texts] = []
    for record in records:
        asked, text = record.prompt.messages, record.response.text
        found.append(Texts(record.id, asked, (text,), (0.0,)))
        shown = (*asked, Message("assistant", text), Message("user", FEEDBACK_REQUEST))
        found.append(Texts(f"{record.id}|feedback", shown, (record.comment,), (1.0,)))
    return found


def with_mismatched(groups: Sequence[TokenGroup], *, seed: int) -> list[TokenGroup]:
    """Give each group of one response a second one, that of another prompt (for KTO's estimate).

    The partner is the next group with another prompt in an order drawn from the seed; scores are
    kept for the first response and -1 for the second.

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
    # Walking the circle backwards twice, the next other prompt is known for every place.
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
    """A demonstration as a group of one, a preference group as it is."""
    asked = record.prompt.messages
    if isinstance(record, PreferenceGroup):
        return Texts(record.id, asked, tuple(r.text for r in record.responses), record.scores)
    return Texts(record.id, asked, (record.response.text,), (0.0,))
