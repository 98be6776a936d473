"""Try a loss of your own against a known truth, in a minute or two.

    python examples/new_objective.py

In `src/alignlab/objectives/` the class would be known by name to every recipe and to `alignlab
train`; here the script registers it. The tutorial docs/tutorials/new_objective.ipynb explains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignlab import run
from alignlab.objectives.base import (
    GroupLogps,
    ObjectiveOutput,
    log_ratios_BK,
    preference_metrics,
)
from alignlab.registry import register


@register("objective", "squared_hinge")
@dataclass(frozen=True)
class SquaredHinge:
    """Push the chosen response above the rejected one until the margin is reached, then stop."""

    beta: float = 0.5
    """Reward per nat of log-ratio."""

    needs_reference: ClassVar[bool] = True
    min_responses: ClassVar[int] = 2
    max_responses: ClassVar[int | None] = 2
    best_only: ClassVar[bool] = False

    def __call__(self, logps: GroupLogps) -> ObjectiveOutput:
        """Return max(0, 1 - beta * delta)^2 per pair."""
        reward_BK = self.beta * log_ratios_BK(logps)
        margin_B = reward_BK[:, 0] - reward_BK[:, 1]
        loss_B = (1 - margin_B).clamp(min=0) ** 2
        return ObjectiveOutput(loss_B, preference_metrics(logps, reward_BK))


if __name__ == "__main__":
    print(run("teacher_reward", "objective.name=squared_hinge", out="runs/squared_hinge"))
