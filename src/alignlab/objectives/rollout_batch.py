"""Define the inputs and the output of a policy-gradient objective.

It is called at two points: once per batch of rollouts to assign credit to each token (`credit`),
then for the loss of every micro-batch of every update.

Axes: N rollouts of a batch, group after group; T tokens of the longest response; R response
tokens of a micro-batch, rollout after rollout; B groups (prompts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from alignlab.objectives.base import ObjectiveOutput


@dataclass(frozen=True)
class StepRewards:
    """Rewards inside the responses of a batch, in place of their scores."""

    reward_NT: Tensor
    """Reward of each token, float64 without gradient; 0 where there is none."""
    step_NT: Tensor
    """True where a step ends, whose reward may be 0."""


@dataclass(frozen=True)
class Rollouts:
    """Sampled and scored responses of a batch, before any update.

    Tensors are float64 without gradient; 0 where padded.
    """

    policy_NT: Tensor
    """log pi(token) in nats under the policy that drew it."""
    reference_NT: Tensor
    """log pi_ref(token) of the same tokens."""
    value_NT: Tensor | None
    """Value estimate before each token; None for an objective without a value head."""
    mask_NT: Tensor
    """True where there is a token; every rollout has at least one."""
    score_N: Tensor
    """Feedback score of each response."""
    group_N: Tensor
    """Index of the prompt of each rollout, 0 to B-1, not decreasing."""
    steps: StepRewards | None = None
    """Rewards inside the responses, whose sums are the scores; None rewards last tokens alone."""


@dataclass(frozen=True)
class CreditState:
    """State carried from one batch of rollouts to the next."""

    kl_coef: float = 0.0
    """Coefficient of the KL penalty."""
    count: float = 0.0
    """Number of rewards so far."""
    mean: float = 0.0
    """Mean of the rewards so far."""
    squares: float = 0.0
    """Sum of squared differences of the rewards from their mean."""


@dataclass(frozen=True)
class Credit:
    """Credit of the tokens of a batch of rollouts; 0 where padded."""

    advantage_NT: Tensor
    """Advantage of each token."""
    return_NT: Tensor | None
    """Targets of the value head; None without one."""
    metrics: Mapping[str, Tensor]
    """Name -> value per rollout (or a single one); reported as means."""
    state: CreditState
    """State for the next batch."""


@dataclass(frozen=True)
class RolloutLogps:
    """Response tokens of a micro-batch of rollouts."""

    policy_R: Tensor
    """log pi(token) in nats, with gradient."""
    old_R: Tensor
    """log pi_old(token) under the policy that drew it, without gradient."""
    reference_R: Tensor
    """log pi_ref(token), without gradient."""
    advantage_R: Tensor
    """Advantage of each token."""
    sequence_R: Tensor
    """Index of each token's rollout in the micro-batch."""
    group_N: Tensor
    """Index of each rollout's group, 0 to B-1."""


@dataclass(frozen=True)
class ValuedLogps:
    """Response tokens of a micro-batch with their value estimates."""

    tokens: RolloutLogps
    value_R: Tensor
    """Expected return before each token, with gradient."""
    old_value_R: Tensor
    """Expected return when the batch was drawn, without gradient."""
    return_R: Tensor
    """Targets of the value head."""


class PolicyGradient(Protocol):
    """Objective over rollouts of the policy.

    It is an `Objective` whose `takes` is `RolloutLogps` or `ValuedLogps`.
    """

    takes: ClassVar[type] = RolloutLogps
    needs_reference: ClassVar[bool] = True
    min_responses: ClassVar[int] = 2
    max_responses: ClassVar[int | None] = None
    best_only: ClassVar[bool] = False
    soft_labels: ClassVar[bool] = False
    once: ClassVar[bool] = False
    """True where each rollout serves one update only, of the policy that drew it."""
    group_relative: ClassVar[bool] = False
    """True where credit is relative to the prompt's other responses: equal scores give none."""
    by_response: ClassVar[bool] = False
    """True where the whole response is one action: importance weights are of responses."""

    def start(self) -> CreditState:
        """Return the state before the first batch."""
        ...

    def credit(self, rollouts: Rollouts, state: CreditState) -> Credit:
        """Assign credit to each token of a batch."""
        ...

    def __call__(self, given: Any, /) -> ObjectiveOutput:
        """Return the loss of each group and its metrics."""
        ...


def is_policy_gradient(objective: object) -> bool:
    """Return True for an objective, or its class, that learns from rollouts."""
    return getattr(objective, "takes", None) in (RolloutLogps, ValuedLogps)
