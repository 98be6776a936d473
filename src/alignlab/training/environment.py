"""Define the environment of rollout training: sampler of responses, engine and reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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
    logprobs: tuple[float, ...] = ()
    """Log-probability in nats of each token under the weights that drew it; empty where the
    sampler returned none."""


@dataclass(frozen=True)
class SampledGroup:
    """Prompt with the policy's responses to it."""

    prompt: Prompt
    prompt_T: tuple[int, ...]
    """Tokens of the prompt."""
    samples: tuple[Sample, ...]
    """Responses; empty where the prompt could not be answered."""
    staleness: int = 0
    """Training steps from the weights that drew the responses to those that learn from them."""


class Checked(NamedTuple):
    """Response whose log-probabilities an engine computes again."""

    prompt_T: tuple[int, ...]
    tokens: tuple[int, ...]


class EngineDraw(NamedTuple):
    """Answer of an engine."""

    version: int
    """Version of the weights that drew the responses."""
    groups: list[SampledGroup]
    """Prompts with their responses, in the order asked for."""
    checked: list[tuple[float, ...]]
    """Log-probability in nats of each token of the responses to be checked; empty where one does
    not fit the engine's context."""


class RolloutEngine(Protocol):
    """Sampler outside the trainer, whose weights follow the model in training.

    Weights are replaced and samples asked for alternately; between `ask` and `answer` the engine
    draws while the trainer trains.
    """

    def update(self, version: int, lm: LanguageModel) -> None:
        """Replace the engine's weights by those of a whole model, and name them by a version."""
        ...

    def ask(self, prompts: Sequence[Prompt], seed: int, checked: Sequence[Checked]) -> None:
        """Ask for `responses` responses to each prompt, and for log-probabilities of others."""
        ...

    def answer(self) -> EngineDraw:
        """Wait for what was asked for."""
        ...


@dataclass(frozen=True)
class Environment:
    """Sampler and reward of a rollout training."""

    sample: Callable[[LanguageModel, Sequence[Prompt], int], list[SampledGroup]]
    """Function of (model, prompts, seed) that draws `responses` responses to each prompt."""
    reward: Callable[[Sequence[SampledGroup], int], list[tuple[Reward, ...]]] | None
    """Function of (groups, seed) that rewards every sample. It is called on the main rank only, and
    may be None on others."""
    engine: RolloutEngine | None = None
    """Engine that samples instead of `sample`, on the main rank; None elsewhere, and without
    one."""
