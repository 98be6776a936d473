"""Build an objective's input from micro-batches, one class per input type.

One `StepInputs` serves a step: it computes what micro-batches share (KTO's estimate is over the
whole step), then makes the input of each.
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
from alignlab.models.logits import LogitScorer
from alignlab.models.moments import MomentScorer
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import EmbeddingNoise, ResponseScorer, Scorer
from alignlab.models.values import ValueScorer
from alignlab.objectives.base import (
    CommentedLogps,
    GroupLogps,
    GroupRewards,
    LabelledLogps,
    Objective,
    TailedLogps,
    WeightedLogps,
    input_of,
)
from alignlab.objectives.distill import TeacherLogits
from alignlab.objectives.rollout_batch import RolloutLogps, ValuedLogps
from alignlab.training.budget import TokenBudget
from alignlab.training.collate import (
    group_logps,
    group_rewards,
    tailed_logps,
    teacher_logits,
    weighted_logps,
)
from alignlab.training.rollout_records import rollout_logps, valued_logps

Reference = Sequence[Any]
"""Precomputed values of each group: reference log-probabilities in nats of its responses, or a
`RolloutRecord`."""


class StepInputs(ABC):
    """Inputs of a step's micro-batches.

    Args:
        scorer: scorer of the model in training.
        groups: groups of the step.
        reference: precomputed values of the same groups, if the objective needs them.
        budget: token budget of a forward pass.
    """

    scorer_class: type[Scorer[Any]] = ResponseScorer
    """Class of the scorer that these inputs need."""
    teacher: Scorer[Any] | None = None
    """Scorer of a teacher, for inputs that hold its values."""

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
        """Compute values that the whole step shares."""

    @contextmanager
    def of(self, batch: Sequence[int], noise: EmbeddingNoise | None) -> Iterator[Any]:
        """Yield the input of the groups with these indices; take gradients inside the block."""
        members = [self.groups[i] for i in batch]
        with self.scorer.scored(members, noise) as scored:
            yield self.make(scored, members, self.known(batch))

    @abstractmethod
    def make(self, scored: Any, members: Sequence[TokenGroup], known: Reference | None) -> Any:
        """Return the input of a micro-batch from its scores."""

    def known(self, batch: Sequence[int]) -> Reference | None:
        """Return the precomputed values of a micro-batch."""
        return None if self.reference is None else [self.reference[i] for i in batch]


class GroupInputs(StepInputs):
    """Inputs of log-probabilities by group."""

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> GroupLogps:
        """Return log-probabilities by group."""
        return group_logps(scored, members, known)


class TailedInputs(StepInputs):
    """Inputs of log-probabilities by group, and of what is longer than the shortest response."""

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> TailedLogps:
        """Return log-probabilities by group and of the tails."""
        return tailed_logps(scored, members, known or ())


class WeightedInputs(StepInputs):
    """Inputs of log-probabilities by group, and of the policy's own likelihood of each."""

    scorer_class = MomentScorer

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> WeightedLogps:
        """Return log-probabilities and weights by group."""
        return weighted_logps(scored, members, known)


class LabelledInputs(StepInputs):
    """Inputs of labelled responses; each group's second response belongs to another prompt."""

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
        """Return log-probabilities of labelled responses."""
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
    """Inputs of responses (score 0) and written feedback on them (score 1)."""

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> CommentedLogps:
        """Return log-probabilities of responses and feedback."""
        logps = group_logps(scored, members, None)
        return CommentedLogps(
            logps.policy_BK[:, 0], logps.length_BK[:, 0], logps.score_BK[:, 0] > 0
        )


class RewardInputs(StepInputs):
    """Inputs of rewards by group."""

    scorer_class = RewardScorer

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> GroupRewards:
        """Return rewards by group."""
        return group_rewards(scored.reward_N, members)


class RolloutInputs(StepInputs):
    """Inputs of rollouts' tokens."""

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> RolloutLogps:
        """Return the tokens of a micro-batch of rollouts."""
        return rollout_logps(scored, members, known or ())


class ValuedInputs(StepInputs):
    """Inputs of rollouts' tokens with value estimates."""

    scorer_class = ValueScorer

    def make(
        self, scored: Any, members: Sequence[TokenGroup], known: Reference | None
    ) -> ValuedLogps:
        """Return the tokens of a micro-batch of rollouts with value estimates."""
        return valued_logps(scored, members, known or ())


class TeacherInputs(StepInputs):
    """Inputs of the logits of student and teacher."""

    scorer_class = LogitScorer

    @contextmanager
    def of(self, batch: Sequence[int], noise: EmbeddingNoise | None) -> Iterator[TeacherLogits]:
        """Yield the logits on the groups with these indices."""
        assert self.teacher is not None
        members = [self.groups[i] for i in batch]
        with torch.no_grad(), self.teacher.scored(members) as found:
            taught = found
        with self.scorer.scored(members, noise) as scored:
            yield teacher_logits(scored, taught, members)

    def make(self, scored: Any, members: Sequence[TokenGroup], known: Reference | None) -> Any:
        """Refuse: the inputs come from two scorers, in `of`."""
        raise TypeError("the logits of a teacher are inputs of `of` alone")


_INPUTS: dict[type, type[StepInputs]] = {
    GroupLogps: GroupInputs,
    TailedLogps: TailedInputs,
    WeightedLogps: WeightedInputs,
    TeacherLogits: TeacherInputs,
    LabelledLogps: LabelledInputs,
    CommentedLogps: CommentedInputs,
    GroupRewards: RewardInputs,
    RolloutLogps: RolloutInputs,
    ValuedLogps: ValuedInputs,
}


def inputs_for(objective: Objective) -> type[StepInputs]:
    """Return the class that makes an objective's inputs.

    Raises:
        BadInput: no class makes this input type.
    """
    taken = input_of(objective)
    if taken not in _INPUTS:
        raise BadInput(
            f"{type(objective).__name__} takes {taken.__name__}, which no training makes"
        )
    return _INPUTS[taken]
