"""Compare a sampler's log-probabilities with the trainer's, and correct for their difference.

A token drawn from mu and trained under pi is weighted by min(cap, pi / mu), the truncated
importance weight (Ionides, 2008; IMPALA, arXiv 1802.01561, section 4.1). mu is the probability that
the engine reports for what it drew, pi the trainer's before the step. Objectives whose action is
the whole response take the product over its tokens, truncated once. A weight scales the advantage:
every policy loss is proportional to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from alignlab.models.packed import TokenGroup
from alignlab.training.metrics import MetricSums
from alignlab.training.rollout_records import RolloutRecord, TokenScores


class LogProbDifference(NamedTuple):
    """Absolute differences of two sets of log-probabilities of the same tokens, in nats."""

    total: float
    tokens: int
    largest: float

    @property
    def mean(self) -> float:
        """Return the mean over tokens."""
        return self.total / self.tokens

    def add_to(self, metric_sums: MetricSums) -> None:
        """Add mean and maximum to the metrics of a step."""
        metric_sums.add("sampler/mismatch", self.total, self.tokens)
        metric_sums.add("sampler/mismatch_max", self.largest, 1)


def difference(ones: Sequence[Tensor], others: Sequence[Tensor]) -> LogProbDifference:
    """Compare log-probabilities in nats; at least one token."""
    gap = (torch.cat(list(ones)) - torch.cat(list(others))).abs()
    return LogProbDifference(float(gap.sum()), len(gap), float(gap.max()))


def drawn_R(group: TokenGroup) -> Tensor:
    """Return the sampler's log-probabilities of a group's tokens, response after response."""
    return torch.tensor([p for logps in group.drawn_logps for p in logps], dtype=torch.float64)


def add_difference(
    groups: Sequence[TokenGroup], policy: Sequence[TokenScores], metric_sums: MetricSums
) -> LogProbDifference:
    """Add the difference of a batch's sampler and trainer to the metrics, and return it."""
    found = difference([drawn_R(group) for group in groups], [each.logp_R for each in policy])
    found.add_to(metric_sums)
    return found


class WeightedRecords(NamedTuple):
    """Records of a batch with their advantages weighted."""

    records: list[RolloutRecord]
    weight: Tensor
    """Weights of all tokens of the batch; of all responses where these are weighted as a whole."""
    truncated: Tensor
    """True where the weight is the cap."""


def weighted(
    groups: Sequence[TokenGroup],
    policy: Sequence[TokenScores],
    records: Sequence[RolloutRecord],
    *,
    cap: float,
    by_response: bool,
) -> WeightedRecords:
    """Weight the advantages of a batch by truncated importance weights.

    Args:
        groups: groups with the sampler's log-probabilities.
        policy: the trainer's log-probabilities of their tokens before the step.
        records: values of their tokens.
        cap: largest weight.
        by_response: weight a response by the product of its tokens' ratios.
    """
    found: list[RolloutRecord] = []
    ratios: list[Tensor] = []
    for group, scored, record in zip(groups, policy, records, strict=True):
        log_ratio_R = scored.logp_R - drawn_R(group)
        lengths = [len(response) for response in group.responses]
        if by_response:
            log_ratio_K = torch.stack([part.sum() for part in torch.split(log_ratio_R, lengths)])
            ratios.append(log_ratio_K.exp())
            weight_R = ratios[-1].clamp(max=cap).repeat_interleave(torch.tensor(lengths))
        else:
            ratios.append(log_ratio_R.exp())
            weight_R = ratios[-1].clamp(max=cap)
        found.append(replace(record, advantage_R=record.advantage_R * weight_R))
    ratio = torch.cat(ratios)
    return WeightedRecords(found, ratio.clamp(max=cap), ratio > cap)
