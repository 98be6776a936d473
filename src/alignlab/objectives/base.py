"""Define the inputs and the output of an objective.

Axes: B groups (prompts) of a micro-batch, K responses of a group, best first. Groups with fewer
than K responses are padded; `mask_BK` says which entries are real. Most objectives take
`GroupLogps`; one that needs something else names a sibling of it as its `takes`.
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
    """The feedback's scores, not increasing along K; 0 where padded."""
    mask_BK: Tensor
    """True where there is a response."""
    longest_B: Tensor | None = None
    """Tokens of each group's prompt with its longest response; None where they are not known."""


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
    """Log-probabilities in nats of responses, and of the feedback in words on them."""

    policy_B: Tensor
    """Summed over the tokens (float64, with gradient): log pi(y|x), or log pi(feedback|y, x)."""
    length_B: Tensor
    """Tokens of each."""
    is_feedback_B: Tensor
    """True where the entry is feedback, False where it is a response."""


@dataclass(frozen=True)
class GroupRewards:
    """A reward model's values for whole responses."""

    reward_BK: Tensor
    """r(x, y) (float64, with gradient); 0 where padded."""
    score_BK: Tensor
    """The feedback's scores, not increasing along K; 0 where padded."""
    mask_BK: Tensor
    """True where there is a response."""


@dataclass(frozen=True)
class ObjectiveOutput:
    """The loss of each group and what is worth watching."""

    loss_B: Tensor
    """Loss per group; a step minimises sum(weight * loss) / sum(weight) over its groups."""
    metrics: Mapping[str, Tensor]
    """Name -> detached value per group that has one (or per token); reported as their means."""
    weight_B: Tensor | None = None
    """Weight of each group, without gradient; None is 1 each."""


class Objective(Protocol):
    """A loss over groups of responses; a class that inherits states where it differs from this.

    Its class may name its input: `takes: ClassVar[type]`, one of the types above; left out, it
    is `GroupLogps`.
    """

    needs_reference: ClassVar[bool] = False
    """True where `reference_BK` must be given."""
    min_responses: ClassVar[int] = 2
    max_responses: ClassVar[int | None] = None
    """Fewest and most responses a group may have; None is no limit."""
    best_only: ClassVar[bool] = False
    """True where only the first response of each group enters the loss."""

    def __call__(self, given: Any, /) -> ObjectiveOutput: ...


def input_of(objective: Objective) -> type:
    """The type of what an objective is given."""
    taken: type = getattr(objective, "takes", GroupLogps)
    return taken


def log_ratios_BK(logps: GroupLogps) -> Tensor:
    """log pi(y|x) - log pi_ref(y|x), (B, K) in nats."""
    if logps.reference_BK is None:
        raise ValueError("this objective needs the reference's log-probabilities; none were given")
    return logps.policy_BK - logps.reference_BK


def mean_nll_best_B(logps: GroupLogps) -> Tensor:
    """Token-mean negative log-likelihood of the best response, (B,) in nats."""
    return -logps.policy_BK[:, 0] / logps.length_BK[:, 0]


def plackett_luce_nll_B(utility_BK: Tensor, mask_BK: Tensor) -> Tensor:
    """-sum_{k<K} log( exp(u_k) / sum_{i>=k} exp(u_i) ), the order being best first; (B,).

    Plackett (1975), Luce (1959). Padded entries (mask False) take no part.
    """
    # A finite stand-in for -inf keeps NaN out of the gradient of padded entries.
    shown_BK = utility_BK.masked_fill(~mask_BK, -1e30)
    tail_BK = torch.logcumsumexp(shown_BK.flip(1), dim=1).flip(1)
    terms_BK = torch.where(mask_BK, tail_BK - utility_BK, 0.0)
    return terms_BK.sum(1)


def reward_metrics(reward_BK: Tensor, mask_BK: Tensor) -> dict[str, Tensor]:
    """TRL's names: the best response is chosen, the mean of the others rejected; each (B,).

    `rewards/accuracies` is the share of the others that the best one beats.
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
    """Mean over all responses of a group but the best; (B,)."""
    others_BK = mask_BK.clone()
    others_BK[:, 0] = False
    return torch.where(others_BK, value_BK, 0.0).sum(1) / others_BK.sum(1).clamp(min=1)


def softplus(value: Tensor) -> Tensor:
    """log(1 + exp(value)) = -log sigmoid(-value), without the threshold of torch's default."""
    return -logsigmoid(-value)
