"""Compute the distribution of the token after each of many texts, common starts read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from alignlab.generation.forward import last_logits
from alignlab.models.head import at_least_float32
from alignlab.models.heads import last_positions
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import EmbeddingNoise, Scorer, head_unserved, soft_cap

MOST_IN_GROUP = 64
"""Most texts of a group, which bounds the search for the best groups."""


class NextTokenScorer(Scorer[Tensor]):
    """Scorer of the token after each response: log-probabilities in nats, (N, V), float32."""

    path = "packed decoder"

    @contextmanager
    def _packed(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> Iterator[Tensor]:
        with self._stream(groups, noise, _root(groups)) as (batch, hidden_Td):
            last_Nd = hidden_Td.index_select(0, last_positions(batch).to(hidden_Td.device))
            logits_NV = at_least_float32(self.base.get_output_embeddings()(last_Nd))
            cap = soft_cap(self.base)
            if cap is not None:
                logits_NV = torch.tanh(logits_NV / cap) * cap
            yield logits_NV.log_softmax(dim=-1)

    @contextmanager
    def _padded(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> Iterator[Tensor]:
        logits_NV = last_logits(self.base, rows_of(groups))[:, 0]
        yield at_least_float32(logits_NV).log_softmax(dim=-1)

    def _values(self, found: Tensor) -> Tensor:
        return found

    def _probed(self, groups: list[TokenGroup]) -> list[TokenGroup]:
        """Continue each prompt by every start of its responses: one value a row needs many rows."""
        return [
            TokenGroup(
                group.id,
                group.prompt_T,
                tuple(row[:end] for row in group.responses for end in range(1, len(row) + 1)),
            )
            for group in groups
        ]

    def _head_unserved(self) -> str | None:
        return head_unserved(self.base)


def _root(groups: Sequence[TokenGroup]) -> int:
    """Return how many tokens of all prompts stand once in the stream."""
    prompts = [group.prompt_T for group in groups]
    if len(prompts) == 1:
        return 0
    return min(common_length(prompts), min(map(len, prompts)) - 1)


def rows_of(groups: Sequence[TokenGroup]) -> list[tuple[int, ...]]:
    """Return each group's prompt with each of its responses, in order."""
    return [group.prompt_T + response for group in groups for response in group.responses]


def common_length(rows: Sequence[Sequence[int]]) -> int:
    """Count the tokens that all rows start with."""
    length = 0
    for tokens in zip(*rows, strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return length


def by_common_start(rows: Sequence[tuple[int, ...]]) -> list[TokenGroup]:
    """Group sorted, distinct rows of at least two tokens so that the fewest tokens are read.

    Every row keeps at least one token of its own as the group's response. What all rows start with
    is counted once (a judge's rubric, whose groups are the questions).
    """
    shortest = min(map(len, rows), default=2)
    root = min(common_length([rows[0], rows[-1]]), shortest - 2) if rows else 0
    common = [0] + [common_length([a, b]) for a, b in pairwise(rows)]
    best, came = [0] + [0] * len(rows), [0] * (len(rows) + 1)
    start = [0] * (len(rows) + 1)
    for last in range(1, len(rows) + 1):
        total, shortest, shared = 0, len(rows[last - 1]), len(rows[last - 1])
        options = []
        for first in range(last - 1, max(-1, last - 1 - MOST_IN_GROUP), -1):
            total += len(rows[first])
            shortest = min(shortest, len(rows[first]))
            kept = min(shared, shortest - 1)
            if kept < 1:
                break
            read = total - kept * (last - first - 1) - min(root, kept)
            options.append((best[first] + read, first, kept))
            shared = min(shared, common[first])
        best[last], came[last], start[last] = min(options)
    groups: list[TokenGroup] = []
    last = len(rows)
    while last:
        kept, members = start[last], rows[came[last] : last]
        groups.append(
            TokenGroup(str(last), members[0][:kept], tuple(row[kept:] for row in members))
        )
        last = came[last]
    return groups[::-1]
