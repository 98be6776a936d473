"""Preferred-FT: supervised fine-tuning on the best response of each group (arXiv 2305.18290, 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab.objectives.base import GroupLogps, Objective, ObjectiveOutput
from alignlab.objectives.sft import SFT
from alignlab.registry import register


@register("objective", "preferred_ft")
@dataclass(frozen=True)
class PreferredFT(Objective):
    """Imitate the best response of each group, whatever the others are."""

    best_only: ClassVar[bool] = True

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Token-mean NLL of the first response in nats, weighted by tokens."""
        return SFT()(logps)
