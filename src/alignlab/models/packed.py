"""Pack groups of responses into one token stream that holds each prompt once.

Stream of a micro-batch (T tokens): for each group its prompt, then its K responses. A response's
positions restart at the prompt's length; the last prompt position predicts the first token of every
response. Where all prompts start alike, their root may stand once, at the start of the stream.
Sequences (prompt + one response) are counted n = 0..N-1 over groups, then responses; R counts
response tokens over sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from alignlab.errors import BadInput

T = TypeVar("T")

STREAM_MULTIPLE = 64
"""Multiple to which streams and predicted rows are filled up (16 for short ones).

Matrix kernels are compiled per shape on CPUs; recurring shapes reuse them.
"""


def rounded_up(length: int) -> int:
    """Round a length up to a multiple, by at most an eighth or 15."""
    multiple = STREAM_MULTIPLE if length >= 8 * STREAM_MULTIPLE else 16
    return -(-length // multiple) * multiple


@dataclass(frozen=True)
class TokenGroup:
    """Prompt with its tokenised responses, best first."""

    id: str
    prompt_T: tuple[int, ...]
    """Tokens before the responses; at least one."""
    responses: tuple[tuple[int, ...], ...]
    """Tokens of each response, the end-of-turn token included; at least one each."""
    scores: tuple[float, ...] = ()
    """Feedback score of each response; empty is 0, -1, -2, ... (ranks)."""
    probability: float | None = None
    """Probability that the first of two responses is the better one; None is a hard label."""
    rewards: tuple[tuple[tuple[int, float], ...], ...] = ()
    """Rewards inside each response, as (index of the token, value), whose sums are the scores;
    empty: each score rewards the last token."""
    drawn_logps: tuple[tuple[float, ...], ...] = ()
    """Log-probability in nats of each response token under the weights that drew it; empty where
    the responses were not drawn, or without them."""

    def __post_init__(self) -> None:
        if not self.prompt_T or not self.responses or not all(self.responses):
            raise BadInput(
                f"group {self.id}: expected a prompt and responses of at least one "
                f"token each, found an empty one"
            )
        if self.scores and len(self.scores) != len(self.responses):
            raise BadInput(
                f"group {self.id}: expected {len(self.responses)} scores, found {len(self.scores)}"
            )

    @cached_property
    def tokens(self) -> int:
        """Positions of the group in a packed stream."""
        return len(self.prompt_T) + sum(map(len, self.responses))

    @cached_property
    def longest(self) -> int:
        """Tokens of the prompt plus its longest response."""
        return len(self.prompt_T) + max(map(len, self.responses))

    @cached_property
    def shortest_response(self) -> int:
        """Tokens of the shortest response."""
        return min(map(len, self.responses))

    @cached_property
    def response_tokens(self) -> int:
        """Tokens of all responses."""
        return sum(map(len, self.responses))


@dataclass(frozen=True)
class Targets:
    """Predicted tokens of a micro-batch, with the sequence of each."""

    token_R: Tensor
    """Response tokens, in order of sequences."""
    sequence_R: Tensor
    """Index of each token's sequence."""
    length_N: tuple[int, ...]
    """Response tokens of each sequence."""
    responses_B: tuple[int, ...]
    """Responses of each group."""


@dataclass(frozen=True)
class PackedBatch:
    """Micro-batch as a packed stream."""

    groups: tuple[TokenGroup, ...]
    token_1T: Tensor
    position_1T: Tensor
    tokens: int
    """Number of real positions; the positions after them are filling."""
    row_R: Tensor
    """Stream position whose hidden state predicts each response token."""
    targets: Targets
    prompt_start_B: tuple[int, ...]
    """Stream position of each group's first token after the root."""
    root: int = 0
    """Tokens that all prompts start with and that stand once, at the start of the stream."""


def make_targets(groups: Sequence[TokenGroup], device: torch.device) -> Targets:
    """Collect the response tokens of groups in order."""
    responses = [response for group in groups for response in group.responses]
    lengths = [len(response) for response in responses]
    tokens = np.fromiter((t for r in responses for t in r), dtype=np.int64, count=sum(lengths))
    return Targets(
        torch.from_numpy(tokens).to(device),
        torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)).to(device),
        tuple(lengths),
        tuple(len(group.responses) for group in groups),
    )


def pack(groups: Sequence[TokenGroup], device: torch.device, root: int = 0) -> PackedBatch:
    """Pack groups into one stream, in the order given.

    Args:
        groups: prompts with responses.
        device: device of the stream.
        root: tokens that all prompts start with and that are to stand once; fewer than any has.
    """
    tokens = list(groups[0].prompt_T[:root])
    positions = [np.arange(root)]
    rows: list[np.ndarray] = []
    starts: list[int] = []
    for group in groups:
        starts.append(len(tokens))
        prompt = len(group.prompt_T)
        tokens.extend(group.prompt_T[root:])
        positions.append(np.arange(root, prompt))
        last_prompt = len(tokens) - 1
        for response in group.responses:
            first = len(tokens)
            tokens.extend(response)
            positions.append(np.arange(prompt, prompt + len(response)))
            rows.append(np.arange(first - 1, first + len(response) - 1))
            # The prompt's last position, not the previous response, predicts the first token.
            rows[-1][0] = last_prompt
    # Filling repeats a real token at position 0: valid embeddings, and no NaN to mask.
    real = len(tokens)
    filling = rounded_up(real) - real
    tokens.extend([tokens[0]] * filling)
    positions.append(np.zeros(filling, dtype=np.int64))
    return PackedBatch(
        tuple(groups),
        torch.tensor(tokens, device=device)[None],
        torch.from_numpy(np.concatenate(positions)).to(device)[None],
        real,
        torch.from_numpy(np.concatenate(rows)).to(device),
        make_targets(groups, device),
        tuple(starts),
        root,
    )


def by_group(values: Iterable[T], groups: Sequence[TokenGroup]) -> list[tuple[T, ...]]:
    """Split one value per response into one tuple per group."""
    remaining = iter(values)
    return [tuple(islice(remaining, len(group.responses))) for group in groups]


def micro_batches(
    groups: Sequence[TokenGroup],
    token_budget: int,
    fits: Callable[[Sequence[TokenGroup]], bool] | None = None,
) -> list[list[int]]:
    """Split groups into batches of at most so many stream tokens, similar lengths together.

    A group larger than the budget makes a batch of its own.

    Args:
        groups: groups to split.
        token_budget: most stream tokens of a batch.
        fits: returns False for a batch that memory does not hold; a single group is not asked.

    Returns:
        Indices of the groups of each batch.
    """
    # Similar lengths share tiles with little padding, and padded batches waste fewer positions.
    order = sorted(range(len(groups)), key=lambda i: (groups[i].longest, i))
    batches: list[list[int]] = []
    room = 0
    for i in order:
        grown = [groups[j] for j in (*batches[-1], i)] if batches and fits is not None else []
        if not batches or groups[i].tokens > room or (fits is not None and not fits(grown)):
            batches.append([])
            room = token_budget
        batches[-1].append(i)
        room -= groups[i].tokens
    return batches
