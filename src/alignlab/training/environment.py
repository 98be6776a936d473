"""Define the environment of rollout training: sampler of responses and reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from alignlab.models.load import LanguageModel
from alignlab.types import Prompt


class TokenReward(NamedTuple):
    """Reward of one token of a response."""

    token: int
    """Index of the token in the response as drawn, from 0."""
    value: float


Reward = float | tuple[TokenReward, ...] | None
"""Reward of a response: a score, rewards of tokens in their order, or None where it is unscored."""


@dataclass(frozen=True)
class Sample:
    """Sampled response."""

    text: str
    """Answer without reasoning, which is scored."""
    tokens: tuple[int, ...]
    """Tokens as drawn, which the policy is trained on."""
    ended: bool
    """True where the end-of-turn token was drawn before the length limit."""
    thought: bool = False
    """True where the response held reasoning."""


@dataclass(frozen=True)
class SampledGroup:
    """Prompt with the policy's responses to it."""

    prompt: Prompt
    prompt_T: tuple[int, ...]
    """Tokens of the prompt."""
    samples: tuple[Sample, ...]
    """Responses; empty where the prompt could not be answered."""


@dataclass(frozen=True)
class Environment:
    """Sampler and reward of a rollout training."""

    sample: Callable[[LanguageModel, Sequence[Prompt], int], list[SampledGroup]]
    """Function of (model, prompts, seed) that draws `responses` responses to each prompt."""
    reward: Callable[[Sequence[SampledGroup], int], list[tuple[Reward, ...]]] | None
    """Function of (groups, seed) that rewards every sample. It is called on the main rank only, and
    may be None on others."""
