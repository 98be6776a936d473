"""Define the inputs and the output of an objective.

Axes: B groups (prompts) of a micro-batch, K responses of a group, best first. Groups with fewer
than K responses are padded; `mask_BK` marks the real entries. Most objectives take `GroupLogps`;
the others name another input type of this module as their `takes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class GroupLogps:
    """Log-probabilities in nats of whole responses, end-of-turn token included."""

    policy_BK: Tensor
    """log pi(y|x), summed over the response's tokens (float64, with gradient)."""
    reference_BK: Tensor | None
    """log pi_ref(y|x), without gradient; None where the objective needs no reference."""
    length_BK: Tensor
    """Response tokens; 1 where padded, so that dividing is safe."""
    score_BK: Tensor
    """Feedback scores, not increasing along K; 0 where padded."""
    mask_BK: Tensor
    """True where there is a response."""
    longest_B: Tensor | None = None
    """Tokens of each group's prompt plus its longest response; None where unknown."""
    probability_B: Tensor | None = None
    """Probability that the first of two responses is the better one, 1 for a hard label; None
    where all labels are hard."""


@dataclass(frozen=True, kw_only=True)
class TailedLogps(GroupLogps):
    """Log-probabilities in nats of whole responses, and of what is longer than the shortest."""

    tail_BK: Tensor
    """log pi of the tokens past the length of the group's shortest response, summed (float64, with
    gradient); 0 for the shortest."""
    reference_tail_BK: Tensor
    """log pi_ref of the same tokens, without gradient."""


@dataclass(frozen=True, kw_only=True)
class WeightedLogps(GroupLogps):
    """Log-probabilities in nats of whole responses, and how likely the policy would sample them."""

    weight_BK: Tensor
    """exp of the mean over tokens of log pi(y_t) - log sum_v pi(v)^2, without gradient."""


@dataclass(frozen=True)
class LabelledLogps:
    """Log-probabilities in nats of single responses that are each desirable or not."""

    policy_B: Tensor
    """log pi(y|x), summed over the response's tokens (float64, with gradient)."""
    reference_B: Tensor
    """log pi_ref(y|x), without gradient."""
    desirable_B: Tensor
    """True where the response is labelled good."""
    mismatched_policy_M: Tensor
    """log pi(y'|x) of the M pairs of a prompt and another prompt's response of the whole step,
    without gradient."""
    mismatched_reference_M: Tensor
    """log pi_ref(y'|x) of the same pairs."""


@dataclass(frozen=True)
class CommentedLogps:
    """Log-probabilities in nats of responses and of written feedback on them."""

    policy_B: Tensor
    """Summed over the tokens (float64, with gradient): log pi(y|x), or log pi(feedback|y, x)."""
    length_B: Tensor
    """Tokens of each response or feedback text."""
    is_feedback_B: Tensor
    """True where the entry is feedback, False where it is a response."""


@dataclass(frozen=True)
class GroupRewards:
    """Rewards of whole responses under a reward model."""

    reward_BK: Tensor
    """r(x, y) (float64, with gradient); 0 where padded."""
    score_BK: Tensor
    """Feedback scores, not increasing along K; 0 where padded."""
    mask_BK: Tensor
    """True where there is a response."""
    probability_B: Tensor | None = None
    """Probability that the first of two responses is the better one, 1 for a hard label; None
    where all labels are hard."""


@dataclass(frozen=True)
class ObjectiveOutput:
    """Loss and metrics of each group."""

    loss_B: Tensor
    """Loss per group; a step minimises sum(weight * loss) / sum(weight) over its groups."""
    metrics: Mapping[str, Tensor]
    """Name -> detached values, one per group or token that has one; reported as their mean."""
    weight_B: Tensor | None = None
    """Weight of each group in the step, without gradient; None weighs each group 1."""


class Objective(Protocol):
    """Loss over groups of responses, with the class attributes that most objectives share.

    A subclass overrides the attributes in which it differs. `takes: ClassVar[type]` names its
    input type, one of this module; without it the input is `GroupLogps`.
    """

    needs_reference: ClassVar[bool] = False
    """True where `reference_BK` must be given."""
    min_responses: ClassVar[int] = 2
    """Fewest responses of a group."""
    max_responses: ClassVar[int | None] = None
    """Most responses of a group; None sets no limit."""
    best_only: ClassVar[bool] = False
    """True where only the first response of each group enters the loss."""
    soft_labels: ClassVar[bool] = False
    """True where the probability of a pair's order weighs both orders' losses."""

    def __call__(self, given: Any, /) -> ObjectiveOutput:
        """Return the loss of each group and its metrics."""
        ...


def input_of(objective: Objective) -> type:
    """Return the input type of an objective."""
    taken: type = getattr(objective, "takes", GroupLogps)
    return taken


def log_ratios_BK(logps: GroupLogps) -> Tensor:
    """Return log pi(y|x) - log pi_ref(y|x) in nats; (B, K)."""
    if logps.reference_BK is None:
        raise ValueError("this objective needs the reference's log-probabilities; none were given")
    return logps.policy_BK - logps.reference_BK


def mean_nll_best_B(logps: GroupLogps) -> Tensor:
    """Return the token-mean negative log-likelihood of the best response in nats; (B,)."""
    return -logps.policy_BK[:, 0] / logps.length_BK[:, 0]


def plackett_luce_nll_B(utility_BK: Tensor, mask_BK: Tensor) -> Tensor:
    """Return the negative log-likelihood of the order best first under Plackett-Luce; (B,).

    -sum_{k<K} log( exp(u_k) / sum_{i>=k} exp(u_i) ) (Plackett, 1975; Luce, 1959). Padded entries
    (mask False) are left out.
    """
    # A finite stand-in for -inf keeps NaN out of the gradient of padded entries.
    shown_BK = utility_BK.masked_fill(~mask_BK, -1e30)
    tail_BK = torch.logcumsumexp(shown_BK.flip(1), dim=1).flip(1)
    terms_BK = torch.where(mask_BK, tail_BK - utility_BK, 0.0)
    return terms_BK.sum(1)


def reward_metrics(reward_BK: Tensor, mask_BK: Tensor) -> dict[str, Tensor]:
    """Return metrics of rewards under TRL's names; each (B,).

    The best response counts as chosen, the mean of the others as rejected; `rewards/accuracies`
    is the share of the others that the best one beats.
    """
    reward_BK = reward_BK.detach()
    chosen_B = reward_BK[:, 0]
    rejected_B = mean_of_others_B(reward_BK, mask_BK)
    beaten_BK = (chosen_B[:, None] > reward_BK).to(reward_BK.dtype)
    return {
        "rewards/chosen": chosen_B,
        "rewards/rejected": rejected_B,
        "rewards/margins": chosen_B - rejected_B,
        "rewards/accuracies": mean_of_others_B(beaten_BK, mask_BK),
    }


def preference_metrics(logps: GroupLogps, reward_BK: Tensor) -> dict[str, Tensor]:
    """Return `reward_metrics` and the policy's log-probabilities; each (B,)."""
    policy_BK = logps.policy_BK.detach()
    return {
        **reward_metrics(reward_BK, logps.mask_BK),
        "logps/chosen": policy_BK[:, 0],
        "logps/rejected": mean_of_others_B(policy_BK, logps.mask_BK),
    }


def mean_of_others_B(value_BK: Tensor, mask_BK: Tensor) -> Tensor:
    """Return the mean over all responses of a group but the best; (B,)."""
    others_BK = mask_BK.clone()
    others_BK[:, 0] = False
    return torch.where(others_BK, value_BK, 0.0).sum(1) / others_BK.sum(1).clamp(min=1)


def softplus(value: Tensor) -> Tensor:
    """Return log(1 + exp(value)) = -log sigmoid(-value), without torch's threshold."""
    return -logsigmoid(-value)
