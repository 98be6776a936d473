"""Reward-conditioned supervised fine-tuning (Quark, arXiv 2205.13636, without its KL term).

SFT on all responses, each after a prefix that names the bin of its reward; generation then starts
from the best bin's prefix. The bins and prefixes are in `alignlab.training.conditioning`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from alignlab.configs import Bounded
from alignlab.objectives.base import GroupLogps, Objective, ObjectiveOutput
from alignlab.objectives.sft import SFT
from alignlab.registry import register


@register("objective", "reward_conditioned")
@dataclass(frozen=True)
class RewardConditioned(Bounded, Objective):
    """Imitate every response, given how good it is."""

    bins: Annotated[int, Field(ge=2)] = 5
    """Bins of equally many responses into which the scores are cut."""

    min_responses: ClassVar[int] = 1
    max_responses: ClassVar[int | None] = 1

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Token-mean NLL in nats, weighted by tokens."""
        return SFT()(logps)
