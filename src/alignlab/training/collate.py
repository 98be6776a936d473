"""Arrange values per sequence as the (B, K) tensors that objectives take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from alignlab.models.logits import TokenLogits
from alignlab.models.moments import TokenMoments
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import TokenLogps
from alignlab.objectives.base import GroupLogps, GroupRewards, TailedLogps, WeightedLogps
from alignlab.objectives.distill import TeacherLogits


def group_logps(
    scored: TokenLogps,
    groups: Sequence[TokenGroup],
    reference: Sequence[Sequence[float]] | None,
) -> GroupLogps:
    """Arrange a micro-batch's sequence log-probabilities by group, padded to the largest K.

    Args:
        scored: log-probabilities of the groups' responses, in order.
        groups: groups of the micro-batch.
        reference: reference log-probabilities in nats per group and response, if needed.
    """
    grid = _Grid(groups, scored.logp_R.device)
    return GroupLogps(
        grid.spread(scored.sequence_N()),
        None if reference is None else grid.filled([v for row in reference for v in row], 0.0),
        grid.filled(scored.targets.length_N, 1.0),
        grid.scores(),
        grid.mask_BK,
        torch.tensor([float(g.longest) for g in groups], dtype=torch.float64).to(
            grid.mask_BK.device
        ),
        grid.probabilities(),
    )


def tailed_logps(
    scored: TokenLogps, groups: Sequence[TokenGroup], reference: Sequence[Sequence[float]]
) -> TailedLogps:
    """Arrange a micro-batch as `group_logps`, with the tails past each group's shortest response.

    Args:
        scored: log-probabilities of the groups' responses, in order.
        groups: groups of the micro-batch.
        reference: reference log-probabilities in nats per group: of its responses, then of their
            tails.
    """
    own = [len(row) // 2 for row in reference]
    whole = group_logps(scored, groups, [row[:k] for row, k in zip(reference, own, strict=True)])
    grid = _Grid(groups, scored.logp_R.device)
    in_tail_R = torch.cat(
        [torch.arange(len(r)) >= g.shortest_response for g in groups for r in g.responses]
    ).to(scored.logp_R.device)
    tails = replace(scored, logp_R=torch.where(in_tail_R, scored.logp_R, 0.0))
    known = [v for row, k in zip(reference, own, strict=True) for v in row[k:]]
    return TailedLogps(
        **_fields(whole),
        tail_BK=grid.spread(tails.sequence_N()),
        reference_tail_BK=grid.filled(known, 0.0),
    )


def weighted_logps(
    scored: TokenMoments,
    groups: Sequence[TokenGroup],
    reference: Sequence[Sequence[float]] | None,
) -> WeightedLogps:
    """Arrange a micro-batch as `group_logps`, with each response's weight under the policy."""
    whole = group_logps(scored, groups, reference)
    aligned = replace(scored, logp_R=scored.logp_R.detach() - scored.moment_R)
    mean_BK = _Grid(groups, scored.logp_R.device).spread(aligned.sequence_N()) / whole.length_BK
    return WeightedLogps(**_fields(whole), weight_BK=mean_BK.exp())


def teacher_logits(
    scored: TokenLogits, taught: TokenLogits, groups: Sequence[TokenGroup]
) -> TeacherLogits:
    """Arrange a micro-batch's logits under student and teacher, which share their tokens.

    Args:
        scored: logits of the student at the groups' response tokens, in order.
        taught: logits of the teacher at the same tokens.
        groups: groups of the micro-batch.
    """
    lengths = torch.tensor([group.response_tokens for group in groups])
    device = scored.logp_R.device

    def teacher(part: slice) -> Tensor:
        with torch.no_grad():
            return taught.logits(part)

    return TeacherLogits(
        scored.logits,
        teacher,
        min(scored.vocabulary, taught.vocabulary),
        torch.arange(len(groups)).repeat_interleave(lengths).to(device),
        lengths.double().to(device),
    )


def _fields(logps: GroupLogps) -> dict[str, Any]:
    return {field.name: getattr(logps, field.name) for field in fields(logps)}


def group_rewards(reward_N: Tensor, groups: Sequence[TokenGroup]) -> GroupRewards:
    """Arrange a micro-batch's rewards by group, padded to the largest K."""
    grid = _Grid(groups, reward_N.device)
    return GroupRewards(
        grid.spread(reward_N.double()), grid.scores(), grid.mask_BK, grid.probabilities()
    )


class _Grid:
    """Layout of values per sequence as (B, K)."""

    def __init__(self, groups: Sequence[TokenGroup], device: torch.device) -> None:
        self.groups = groups
        counts = torch.tensor([len(g.responses) for g in groups])
        self.full = bool((counts == counts[0]).all())
        self.mask_BK = (torch.arange(int(counts.max())) < counts[:, None]).to(device)

    def spread(self, value_N: Tensor) -> Tensor:
        """Arrange values as (B, K) with gradient; 0 where padded."""
        if self.full:
            return value_N.view(self.mask_BK.shape)
        return value_N.new_zeros(self.mask_BK.shape).masked_scatter(self.mask_BK, value_N)

    def filled(self, values: Sequence[float], pad: float) -> Tensor:
        """Arrange constants as (B, K), in float64."""
        mask_BK = self.mask_BK.cpu()
        block = torch.full(mask_BK.shape, pad, dtype=torch.float64)
        block[mask_BK] = torch.tensor(values, dtype=torch.float64)
        return block.to(self.mask_BK.device)

    def scores(self) -> Tensor:
        """Arrange feedback scores as (B, K); ranks 0, -1, ... where a group has none."""
        found = [s for g in self.groups for s in (g.scores or range(0, -len(g.responses), -1))]
        return self.filled(found, 0.0)

    def probabilities(self) -> Tensor | None:
        """Return the probabilities of the orders; None where all labels are hard."""
        if all(g.probability is None for g in self.groups):
            return None
        found = [1.0 if g.probability is None else g.probability for g in self.groups]
        return torch.tensor(found, dtype=torch.float64).to(self.mask_BK.device)
