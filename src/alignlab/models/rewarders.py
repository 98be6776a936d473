"""Compute rewards of texts by classifiers of one label, and by the log-ratio of two decoders.

A text that exceeds a model's context, or has no finite reward, is `Unscored` with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from alignlab.errors import BadInput
from alignlab.models.attention import keep_soft_cap
from alignlab.models.chat_template import encode_prompt, encode_response, template_end
from alignlab.models.heads import load_reward_model, rewards
from alignlab.models.load import LanguageModel, context_length, device_of
from alignlab.models.locate import locate
from alignlab.models.logprobs import response_logprobs
from alignlab.models.packed import TokenGroup
from alignlab.models.weight_files import read_whole_model, reading
from alignlab.types import Prompt, Response, Unscored

Rewarded = float | Unscored
Asked = Sequence[tuple[Prompt, Response]]

PAIRS_AT_ONCE = 16
"""Batch size of a classifier of text pairs."""


@dataclass(frozen=True)
class ChatRewarder:
    """Classifier that reads a conversation in its chat template."""

    lm: LanguageModel
    max_tokens: int = 0
    """Longest conversation; 0 is the model's context."""
    end: Literal["turn", "template"] = "turn"
    """Position of the reward: "turn", the end-of-turn token, as alignlab trains it; "template",
    the last token that the chat template writes after an answer."""

    def __call__(self, asked: Asked) -> list[Rewarded]:
        """Score every response, in order."""
        rest = template_end(self.lm) if self.end == "template" else []

        def encode(text: str) -> list[int]:
            return encode_response(self.lm, text) + rest

        return _by_groups(self.lm, asked, encode, self._rewards, self.max_tokens)

    def _rewards(self, groups: Sequence[TokenGroup]) -> list[tuple[float, ...]]:
        return rewards(self.lm, groups)


@dataclass(frozen=True)
class ImplicitRewarder:
    """DPO's implicit reward: beta * (log pi(y|x) - log pi_ref(y|x)) (arXiv 2305.18290, eq. 5).

    The term that depends on the prompt alone is omitted: only rewards of one prompt compare.
    """

    policy: LanguageModel
    reference: LanguageModel
    beta: float
    per_token: bool = False
    """Divide the reward by the response's tokens."""

    def __post_init__(self) -> None:
        if self.policy.tokenizer.get_vocab() != self.reference.tokenizer.get_vocab():
            raise BadInput(
                f"implicit_reward: expected policy and reference with one vocabulary, found "
                f"{self.policy.name} and {self.reference.name} with different ones"
            )

    def __call__(self, asked: Asked) -> list[Rewarded]:
        """Score every response, in order."""
        lm, most = self.policy, context_length(self.reference)
        return _by_groups(lm, asked, lambda t: encode_response(lm, t), self._rewards, most)

    def _rewards(self, groups: Sequence[TokenGroup]) -> list[tuple[float, ...]]:
        policy = response_logprobs(self.policy, groups)
        reference = response_logprobs(self.reference, groups)
        return [
            tuple(
                self.beta * (p - r) / (len(tokens) if self.per_token else 1)
                for p, r, tokens in zip(own.sums, other.sums, group.responses, strict=True)
            )
            for group, own, other in zip(groups, policy, reference, strict=True)
        ]


@dataclass(frozen=True)
class PairRewarder:
    """Classifier that reads question and answer as a pair of texts, as encoders do."""

    model: Any
    tokenizer: Any
    max_tokens: int

    def __call__(self, asked: Asked) -> list[Rewarded]:
        """Score every response, in order; a conversation is joined line by line."""
        found: list[Rewarded] = [Unscored("not asked")] * len(asked)
        questions = ["\n".join(m.content for m in prompt.messages) for prompt, _ in asked]
        lengths = [
            len(self.tokenizer(question, response.text)["input_ids"])
            for question, (_, response) in zip(questions, asked, strict=True)
        ]
        fitting = [i for i, length in enumerate(lengths) if length <= self.max_tokens]
        fitting.sort(key=lambda i: (lengths[i], i))
        for start in range(0, len(fitting), PAIRS_AT_ONCE):
            batch = fitting[start : start + PAIRS_AT_ONCE]
            pairs = [questions[i] for i in batch], [asked[i][1].text for i in batch]
            tokens = self.tokenizer(*pairs, padding=True, return_tensors="pt")
            with torch.no_grad():
                logits_N1 = self.model(**tokens.to(self.model.device)).logits
            for i, value in zip(batch, logits_N1[:, 0].double().tolist(), strict=True):
                found[i] = _finite(value)
        for i in set(range(len(asked))).difference(fitting):
            found[i] = _too_long(self.max_tokens)
        return found


def open_rewarder(
    spec: str | Path,
    *,
    layout: Literal["auto", "chat", "pair"] = "auto",
    max_tokens: int = 0,
    end: Literal["turn", "template"] = "turn",
    device: str | None = None,
    dtype: str = "auto",
) -> ChatRewarder | PairRewarder:
    """Open a classifier of one label from a local folder or the hub.

    Args:
        layout: encoding of question and answer; "auto" is "chat" where the tokenizer has a chat
            template.
        max_tokens: longest question plus answer; 0 is the model's context.
        end: position of the reward, as `ChatRewarder.end`.
        device: device of the weights.
        dtype: type of the weights in layout "chat"; a pair's encoder keeps that of its files.

    Raises:
        BadInput: no such classifier, or no chat template for layout "chat".
    """
    folder = locate(spec)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if layout == "chat" or (layout == "auto" and tokenizer.chat_template):
        return ChatRewarder(load_reward_model(folder, device=device, dtype=dtype), max_tokens, end)
    if end != "turn":
        raise BadInput("reward_model: end: has no effect on a pair of texts; leave it out")
    with reading("a reward model", folder):
        model = read_whole_model(AutoModelForSequenceClassification, folder)
    keep_soft_cap(model)
    if model.config.num_labels != 1:
        raise BadInput(
            f"{spec}: expected a classifier of one label, found {model.config.num_labels} labels"
        )
    model.to(device_of(device)).eval()
    context = getattr(model.config, "max_position_embeddings", None) or 2**31
    return PairRewarder(model, tokenizer, max_tokens or min(context, tokenizer.model_max_length))


def _by_groups(
    lm: LanguageModel,
    asked: Asked,
    encode: Callable[[str], list[int]],
    score: Callable[[Sequence[TokenGroup]], list[tuple[float, ...]]],
    max_tokens: int,
) -> list[Rewarded]:
    """Score responses in groups by prompt; those too long are unscored."""
    most = min(max_tokens or 2**31, context_length(lm))
    found: list[Rewarded] = [_too_long(most)] * len(asked)
    groups: list[TokenGroup] = []
    places: list[list[int]] = []
    for prompt, members in groupby(range(len(asked)), key=lambda i: asked[i][0]):
        start = tuple(encode_prompt(lm, prompt.messages))
        encoded = {i: tuple(encode(asked[i][1].text)) for i in members}
        kept = {i: tokens for i, tokens in encoded.items() if len(start) + len(tokens) <= most}
        if kept:
            groups.append(TokenGroup(prompt.id, start, tuple(kept.values())))
            places.append(list(kept))
    if groups:
        for where, values in zip(places, score(groups), strict=True):
            for i, value in zip(where, values, strict=True):
                found[i] = _finite(value)
    return found


def _finite(value: float) -> Rewarded:
    return value if math.isfinite(value) else Unscored("the reward is not finite")


def _too_long(most: int) -> Unscored:
    return Unscored(f"longer than {most} tokens")
