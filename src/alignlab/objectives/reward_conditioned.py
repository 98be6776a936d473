"""Reward-conditioned supervised fine-tuning (Quark, arXiv 2205.13636, without its KL term).

SFT on all responses, each after a prefix that names the bin of its reward; generation starts from
the best bin's prefix: L = NLL(y | x, bin). Bins and prefixes are in
`alignlab.training.conditioning`. Assumes scores that compare across prompts. Departs from the
paper: no KL term, and no new samples between updates.
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
    """Imitate every response, given the bin of its reward."""

    bins: Annotated[int, Field(ge=2)] = 5
    """Number of bins, of about equally many scores each."""

    min_responses: ClassVar[int] = 1
    max_responses: ClassVar[int | None] = 1

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the token-mean NLL in nats, weighted by tokens."""
        return SFT()(logps)
