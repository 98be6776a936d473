"""Reward-conditioned supervised fine-tuning (Quark, arXiv 2205.13636, without its KL term).

SFT on all responses, each after a prefix that names the bin of its reward; generation then starts
from the best bin's prefix. The bins and prefixes are in `alignlab.training.conditioning`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab.errors import BadInput
from alignlab.objectives.base import GroupLogps, ObjectiveOutput
from alignlab.objectives.sft import SFT
from alignlab.registry import register


@register("objective", "reward_conditioned")
@dataclass(frozen=True)
class RewardConditioned:
    """Imitate every response, told how good it is."""

    bins: int = 5
    """Bins of equally many responses into which the scores are cut."""

    needs_reference: ClassVar[bool] = False
    min_responses: ClassVar[int] = 1
    max_responses: ClassVar[int | None] = 1
    best_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise BadInput(f"reward_conditioned: bins: expected 2 or more, found {self.bins}")

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Token-mean NLL in nats, weighted by tokens."""
        return SFT()(logps)
