"""Define the inputs and the output of a policy-gradient objective.

It is asked twice: once for a whole batch of rollouts, which part of their scores each token is
to be given credit for (`credit`), then for the loss of every micro-batch of every update.

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
class Rollouts:
    """A batch of sampled responses that were scored, before anything is learned from it.

    In float64, without gradient; 0 where padded.
    """

    policy_NT: Tensor
    """log pi(token) in nats under the policy that drew it."""
    reference_NT: Tensor
    """log pi_ref(token) of the same tokens."""
    value_NT: Tensor | None
    """The value head's estimate before each token; None for an objective without values."""
    mask_NT: Tensor
    """True where there is a token; every rollout has one at least."""
    score_N: Tensor
    """The feedback's score of each response."""
    group_N: Tensor
    """Index of the prompt of each rollout, 0 to B-1, not decreasing."""


@dataclass(frozen=True)
class CreditState:
    """State between batches of rollouts; plain numbers."""

    kl_coef: float = 0.0
    """Coefficient of the KL penalty."""
    count: float = 0.0
    """Rewards seen so far."""
    mean: float = 0.0
    """Their mean."""
    squares: float = 0.0
    """Sum of their squared deviations from it."""


@dataclass(frozen=True)
class Credit:
    """Credit of the tokens of a batch of rollouts; 0 where padded."""

    advantage_NT: Tensor
    """By how much a token did better than expected."""
    return_NT: Tensor | None
    """Targets of the values; None without values."""
    metrics: Mapping[str, Tensor]
    """Name -> value per rollout (or a single one); reported as means."""
    state: CreditState
    """For the next batch."""


@dataclass(frozen=True)
class RolloutLogps:
    """The response tokens of a micro-batch of rollouts."""

    policy_R: Tensor
    """log pi(token) in nats, with gradient."""
    old_R: Tensor
    """The same under the policy that drew the token, without gradient."""
    reference_R: Tensor
    """log pi_ref(token), without gradient."""
    advantage_R: Tensor
    """The credit of each token."""
    sequence_R: Tensor
    """Index of each token's rollout in the micro-batch."""
    group_N: Tensor
    """Index of each rollout's group, 0 to B-1."""


@dataclass(frozen=True)
class ValuedLogps:
    """The response tokens of a micro-batch with the value head's estimates."""

    tokens: RolloutLogps
    value_R: Tensor
    """Expected return before each token, with gradient."""
    old_value_R: Tensor
    """The same when the batch was drawn, without gradient."""
    return_R: Tensor
    """Targets of the values."""


class PolicyGradient(Protocol):
    """An objective over rollouts of the policy itself.

    It is also an `Objective`, whose `takes` is `RolloutLogps` or `ValuedLogps`.
    """

    takes: ClassVar[type] = RolloutLogps
    needs_reference: ClassVar[bool] = True
    min_responses: ClassVar[int] = 2
    max_responses: ClassVar[int | None] = None
    best_only: ClassVar[bool] = False
    once: ClassVar[bool] = False
    """True where a rollout is learned from once only, by the policy that drew it."""

    def start(self) -> CreditState:
        """The state before the first batch."""
        ...

    def credit(self, rollouts: Rollouts, state: CreditState) -> Credit:
        """Assign credit to each token of a batch."""
        ...

    def __call__(self, given: Any, /) -> ObjectiveOutput: ...


def is_policy_gradient(objective: object) -> bool:
    """Return True for an objective, or its class, that learns from rollouts."""
    return getattr(objective, "takes", None) in (RolloutLogps, ValuedLogps)
