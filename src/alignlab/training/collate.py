"""From log-probabilities of sequences to the (B, K) tensors that objectives take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import TokenLogps
from alignlab.objectives.base import GroupLogps


def group_logps(
    scored: TokenLogps,
    groups: Sequence[TokenGroup],
    reference: Sequence[Sequence[float]] | None,
) -> GroupLogps:
    """Arrange a micro-batch's sequence log-probabilities by group, padded to the largest K.

    Args:
        scored: of the groups' responses, in order.
        groups: the micro-batch.
        reference: log-probabilities per group and response, where the objective needs them.
    """
    device = scored.logp_R.device
    counts = scored.targets.responses_B
    shape = (len(groups), max(counts))
    mask_BK = torch.arange(shape[1]) < torch.tensor(counts)[:, None]
    policy_N = scored.sequence_N()

    def spread(values: Sequence[float], pad: float) -> Tensor:
        block = torch.full(shape, pad, dtype=torch.float64)
        block[mask_BK] = torch.tensor(values, dtype=torch.float64)
        return block.to(device)

    if mask_BK.all():
        policy_BK = policy_N.view(shape)
    else:
        policy_BK = policy_N.new_zeros(shape).masked_scatter(mask_BK.to(device), policy_N)
    scores = [s for g in groups for s in (g.scores or range(0, -len(g.responses), -1))]
    return GroupLogps(
        policy_BK,
        None if reference is None else spread([v for row in reference for v in row], 0.0),
        spread(scored.targets.length_N, 1.0),
        spread(scores, 0.0),
        mask_BK.to(device),
    )
