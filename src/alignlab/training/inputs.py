"""Build an objective's input from a step's micro-batches: one class per input type.

A step's inputs are made once per step (KTO's estimate is over the whole step) and then asked for
each micro-batch in turn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from alignlab.errors import BadInput
from alignlab.models.heads import RewardScorer
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import EmbeddingNoise, ResponseScorer, Scorer
from alignlab.models.values import ValueScorer
from alignlab.objectives.base import (
    CommentedLogps,
    GroupLogps,
    GroupRewards,
    LabelledLogps,
    Objective,
    input_of,
)
from alignlab.objectives.rollout_batch import RolloutLogps, ValuedLogps
from alignlab.training.budget import TokenBudget
from alignlab.training.collate import group_logps, group_rewards
from alignlab.training.rollout_records import rollout_logps, valued_logps

Reference = Sequence[Any]
"""Known values of each group: the reference's log-probability in nats of each of its
responses; of rollouts, a `Rolled`."""


class StepInputs(ABC):
    """The inputs of one step's micro-batches.

    Args:
        scorer: gives the model's values, with gradient.
        groups: the step's.
        reference: of the same groups, where the objective needs it.
        budget: of a forward pass.
    """

    scorer_class: type[Scorer[Any]] = ResponseScorer

    def __init__(
        self,
        scorer: Scorer[Any],
        groups: Sequence[TokenGroup],
        reference: Reference | None,
        budget: TokenBudget,
    ) -> None:
        self.scorer, self.groups, self.reference = scorer, groups, reference
        self.prepare(budget)

    def prepare(self, budget: TokenBudget) -> None:  # noqa: B027 - most inputs need nothing
        """Do what the whole step shares."""

    @contextmanager
    def of(self, batch: Sequence[int], noise: EmbeddingNoise | None) -> Iterator[Any]:
        """Make the input of the groups with these indices; take gradients inside the block."""
        members = [self.groups[i] for i in batch]
        with self.scorer.scored(members, noise) as scored:
            yield self.make(scored, members, self.known(batch))

    @abstractmethod
    def make(self, scored: Any, members: Sequence[TokenGroup], known: Reference | None) -> Any:
        """Return the input of a micro-batch from its scores."""

    def known(self, batch: Sequence[int]) -> Reference | None:
        """The reference's values of a micro-batch."""
        return None if self.reference is None else [self.reference[i] for i in batch]


class GroupInputs(StepInputs):
    """Log-probabilities by group."""

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> GroupLogps:
        return group_logps(scored, members, known)


class LabelledInputs(StepInputs):
    """Single responses with a label; each group's second response is another prompt's."""

    def prepare(self, budget: TokenBudget) -> None:
        """Score the step's mismatched pairs, without dropout or gradient."""
        if self.reference is None:
            raise ValueError("labelled responses need the reference's log-probabilities")
        others = [replace(g, responses=g.responses[1:], scores=()) for g in self.groups]
        found = budget.score(self.scorer, others)
        device = self.scorer.base.device
        self.policy_M = torch.tensor(
            [sums[0] for sums in found], dtype=torch.float64, device=device
        )
        known = [row[1] for row in self.reference]
        self.reference_M = torch.tensor(known, dtype=torch.float64, device=device)
        self.groups = [
            replace(g, responses=g.responses[:1], scores=g.scores[:1]) for g in self.groups
        ]

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> LabelledLogps:
        logps = group_logps(scored, members, [row[:1] for row in known or ()])
        assert logps.reference_BK is not None
        return LabelledLogps(
            logps.policy_BK[:, 0],
            logps.reference_BK[:, 0],
            logps.score_BK[:, 0] > 0,
            self.policy_M,
            self.reference_M,
        )


class CommentedInputs(StepInputs):
    """Responses and feedback on them, distinguished by score: 1 is feedback, 0 a response."""

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> CommentedLogps:
        logps = group_logps(scored, members, None)
        return CommentedLogps(
            logps.policy_BK[:, 0], logps.length_BK[:, 0], logps.score_BK[:, 0] > 0
        )


class RewardInputs(StepInputs):
    """A reward model's values by group."""

    scorer_class = RewardScorer

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> GroupRewards:
        return group_rewards(scored.reward_N, members)


class RolloutInputs(StepInputs):
    """The tokens of rollouts with what is known of them."""

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> RolloutLogps:
        return rollout_logps(scored, members, known or ())


class ValuedInputs(StepInputs):
    """The tokens of rollouts with the value head's estimates."""

    scorer_class = ValueScorer

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> ValuedLogps:
        return valued_logps(scored, members, known or ())


_INPUTS: dict[type, type[StepInputs]] = {
    GroupLogps: GroupInputs,
    LabelledLogps: LabelledInputs,
    CommentedLogps: CommentedInputs,
    GroupRewards: RewardInputs,
    RolloutLogps: RolloutInputs,
    ValuedLogps: ValuedInputs,
}


def inputs_for(objective: Objective) -> type[StepInputs]:
    """The class that makes what an objective is given.

    Raises:
        BadInput: this loop does not make it (the input of another kind of training).
    """
    taken = input_of(objective)
    if taken not in _INPUTS:
        raise BadInput(
            f"{type(objective).__name__} takes {taken.__name__}, which cannot be had here"
        )
    return _INPUTS[taken]
