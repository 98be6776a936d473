"""Preferred-FT: supervised fine-tuning on the best response of each group.

A baseline of DPO's evaluation (arXiv 2305.18290, section 6): L = NLL of the best response. Assumes
that the best response is worth imitating. Departs as SFT: every token of a step weighs the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab.objectives.base import GroupLogps, Objective, ObjectiveOutput
from alignlab.objectives.sft import SFT
from alignlab.registry import register


@register("objective", "preferred_ft")
@dataclass(frozen=True)
class PreferredFT(Objective):
    """Imitate the best response of each group; the others have no effect."""

    best_only: ClassVar[bool] = True

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return the token-mean NLL of the first response in nats, weighted by tokens."""
        return SFT()(logps)
