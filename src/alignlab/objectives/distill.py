"""Distil a teacher's next-token distributions, GKD (arXiv 2306.13649, equations 1 and 4).

At every token of a response the student's distribution p_S is drawn to the teacher's p_T by the
generalised Jensen-Shannon divergence

JSD(beta) = beta * KL(p_T || m) + (1 - beta) * KL(p_S || m), m = beta * p_T + (1 - beta) * p_S

whose ends are, as in trl, the forward KL(p_T || p_S) for beta = 0 and the reverse KL(p_S || p_T)
for beta = 1. L is its mean over the step's response tokens. On-policy distillation takes responses
that the student drew itself; no gradient flows through the drawing. Assumes that both models share
one tokenizer. Both distributions are softened by the temperature, and the loss is not multiplied
by its square.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from alignlab.configs import Bounded, Fraction, Positive
from alignlab.objectives.base import Objective, ObjectiveOutput
from alignlab.registry import register

Rows = Callable[[slice], Tensor]
"""Function of some response tokens that returns logits over the vocabulary there; (rows, V)."""
PART_ELEMENTS = 1 << 24
"""Largest number of logits of one model held at once; more rows are recomputed in the backward."""


@dataclass(frozen=True)
class TeacherLogits:
    """Logits of student and teacher at every response token, computed in parts."""

    student: Rows
    """The student's, with gradient, in float32 at least."""
    teacher: Rows
    """The teacher's at the same tokens, without gradient."""
    vocabulary: int
    """Tokens that both models know; logits behind them are left out."""
    group_R: Tensor
    """Index of each token's group."""
    length_B: Tensor
    """Response tokens of each group, in float64."""

    def by_group(self, value: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Sum a value of each token over the tokens of each group, in float64; (B,).

        Args:
            value: function of the student's and the teacher's logits (rows, V), to (rows,).
        """
        step = max(1, PART_ELEMENTS // self.vocabulary)
        count = len(self.group_R)
        parts = [slice(first, min(first + step, count)) for first in range(0, count, step)]

        def of(part: slice) -> Tensor:
            known = slice(0, self.vocabulary)
            return value(self.student(part)[:, known], self.teacher(part)[:, known])

        if len(parts) > 1:
            found = [checkpoint(of, part, use_reentrant=False) for part in parts]
        else:
            found = [of(part) for part in parts]
        total_B = torch.zeros_like(self.length_B)
        return total_B.index_add(0, self.group_R, torch.cat(found).double())


def generalised_jsd_R(
    student_RV: Tensor, teacher_RV: Tensor, *, beta: float, temperature: float
) -> Tensor:
    """Compute the generalised Jensen-Shannon divergence in nats of each row; (R,)."""
    student_RV = torch.log_softmax(student_RV / temperature, dim=1)
    teacher_RV = torch.log_softmax(teacher_RV / temperature, dim=1)
    if beta == 0:
        return _kl(teacher_RV, student_RV)
    if beta == 1:
        return _kl(student_RV, teacher_RV)
    mixed_RV = torch.logaddexp(student_RV + math.log1p(-beta), teacher_RV + math.log(beta))
    return beta * _kl(teacher_RV, mixed_RV) + (1 - beta) * _kl(student_RV, mixed_RV)


def _kl(logp_RV: Tensor, logq_RV: Tensor) -> Tensor:
    """Compute KL(p || q) in nats of each row from log-probabilities; (R,)."""
    return (logp_RV.exp() * (logp_RV - logq_RV)).sum(1)


@register("objective", "distill")
@dataclass(frozen=True)
class Distill(Bounded, Objective):
    """Draw the student's next-token distributions to a teacher's on given responses."""

    teacher: str = ""
    """Model with the student's tokenizer, whose logits are learned: folder or hub id."""
    beta: Fraction = 0.5
    """Share of the teacher in the mixture; 0 is the forward, 1 the reverse KL divergence."""
    temperature: Positive = 1.0
    """Temperature of both softmaxes."""

    takes: ClassVar[type] = TeacherLogits
    min_responses: ClassVar[int] = 1
    max_responses: ClassVar[int | None] = 1
    best_only: ClassVar[bool] = True

    def __call__(self, given: TeacherLogits) -> ObjectiveOutput:
        """Return the token-mean divergence in nats, weighted by tokens."""
        value = partial(generalised_jsd_R, beta=self.beta, temperature=self.temperature)
        loss_B = given.by_group(value) / given.length_B
        return ObjectiveOutput(loss_B, {}, weight_B=given.length_B)
