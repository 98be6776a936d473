"""Define the environment of rollout training: a sampler of responses, and their rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alignlab.models.load import LanguageModel
from alignlab.types import Prompt


@dataclass(frozen=True)
class Sample:
    """One response as it was drawn."""

    text: str
    tokens: tuple[int, ...]
    """Exactly as drawn; the policy is trained on these."""
    ended: bool
    """True where the end-of-turn token was drawn before the limit."""


@dataclass(frozen=True)
class SampledGroup:
    """A prompt with the policy's responses to it."""

    prompt: Prompt
    prompt_T: tuple[int, ...]
    samples: tuple[Sample, ...]
    """Empty where the prompt could not be answered."""


@dataclass(frozen=True)
class Environment:
    """Sampler and reward of a rollout training."""

    sample: Callable[[LanguageModel, Sequence[Prompt], int], list[SampledGroup]]
    """Draws `responses` responses to each prompt from the model as it is, decided by the seed."""
    reward: Callable[[Sequence[SampledGroup], int], list[tuple[float | None, ...]]] | None
    """Scores every sample of every group; None is unscored. Of several processes, the leader's is
    asked; it may be None in the others."""
