"""Joint modelling of responses and written feedback on them.

Learn to predict the feedback and, with weight lambda, the response:

L = -log p(feedback | y, x) + lambda * (-log p(y | x))

Both terms are sums over tokens, divided by the step's number of tokens: learning rates carry over
from SFT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alignlab.configs import Bounded, NonNegative
from alignlab.objectives.base import CommentedLogps, Objective, ObjectiveOutput
from alignlab.registry import register


@register("objective", "joint_feedback")
@dataclass(frozen=True)
class JointFeedback(Bounded, Objective):
    """Learn the feedback on a response, and with a weight the response itself."""

    response_weight: NonNegative = 1.0
    """Weight (lambda) of the responses' negative log-likelihood; 0 learns only feedback."""

    takes: ClassVar[type] = CommentedLogps
    min_responses: ClassVar[int] = 1
    max_responses: ClassVar[int | None] = 1

    def __call__(self, logps: CommentedLogps) -> ObjectiveOutput:
        """Return the token-mean NLL of each response or feedback in nats, weighted by tokens."""
        feedback_B = logps.is_feedback_B
        nll_B = -logps.policy_B / logps.length_B
        weight_B = torch.where(feedback_B, 1.0, self.response_weight)
        policy_B = logps.policy_B.detach()
        metrics = {"logps/feedback": policy_B[feedback_B], "logps/response": policy_B[~feedback_B]}
        return ObjectiveOutput(weight_B * nll_B, metrics, weight_B=logps.length_B)
