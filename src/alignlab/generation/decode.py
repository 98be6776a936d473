"""Decoding loop: each distinct prompt is read once and shared by its samples.

Prompts are read and tokens fed by a `PrefixState` (`shared.py`, or `forward.py` for models without
exact sharing); this file chooses tokens, and takes finished rows out of the batch as they gather.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from alignlab.generation.sampling import sample_tokens

STOP_EVERY = 8
"""Steps between two checks for stop strings; tokens after one are cut off later."""
COMPACT_SHARE = 1 / 16
"""Finished share of the batch at which its rows are removed."""


class PrefixState(Protocol):
    """State of prompts that are read once and continued by rows, one token at a time."""

    def start(self, prompt_of_L: Tensor, steps: int) -> Tensor:
        """Read the prompts; return the logits of each row's first token, shape (L, V)."""
        ...

    def step(self, token_L: Tensor) -> Tensor:
        """Feed each row's newest token; return the logits of its next one, shape (L, V)."""
        ...

    def keep(self, row_M: Tensor) -> None:
        """Continue with the given rows only, in rising order."""
        ...


@dataclass(frozen=True)
class DecodeBatch:
    """Samples to draw for some prompts, all with one temperature and nucleus."""

    prompts: tuple[tuple[int, ...], ...]
    """Token ids of each distinct prompt."""
    prompt_of_B: Tensor
    """Index of the prompt that each row continues."""
    uniform_BT: Tensor
    """One float64 draw from [0, 1) per row and step, T steps at most."""
    limit_B: Tensor
    """Most new tokens per row."""
    temperature: float
    top_p: float


@dataclass(frozen=True)
class Decoded:
    """Tokens drawn for each row; entries past a row's length are undefined."""

    tokens_BT: Tensor
    logprobs_BT: Tensor
    """Log-probability in nats of each token at temperature 1, float32."""
    length_B: Tensor
    """New tokens per row, the end token included."""


def decode(
    read: Callable[[Sequence[Sequence[int]], int], PrefixState],
    batch: DecodeBatch,
    end_tokens: Tensor,
    stopped: Callable[[Tensor], Tensor] | None = None,
    *,
    trains: bool = False,
) -> Decoded:
    """Continue every row until an end token, its limit, or a stop string.

    Args:
        read: makes the reading from prompts and the most tokens to follow (a `Reader`).
        batch: the samples to draw.
        end_tokens: tokens that end a row.
        stopped: given the tokens so far of the unfinished rows, shape (rows, steps), every few
            steps, says which of them hold a stop string.
        trains: compute without gradient instead of in inference mode: shards that are gathered in
            inference mode cannot be trained afterwards.
    """
    with torch.no_grad() if trains else torch.inference_mode():
        return _decode(read, batch, end_tokens, stopped)


def _decode(
    read: Callable[[Sequence[Sequence[int]], int], PrefixState],
    batch: DecodeBatch,
    end_tokens: Tensor,
    stopped: Callable[[Tensor], Tensor] | None,
) -> Decoded:
    """Continue every row, as `decode` does."""
    rows, steps = batch.uniform_BT.shape
    device = batch.uniform_BT.device
    tokens_BT = torch.zeros((rows, steps), dtype=torch.long, device=device)
    logprobs_BT = torch.zeros((rows, steps), dtype=torch.float32, device=device)
    length_B = torch.zeros(rows, dtype=torch.long, device=device)
    finished_L = torch.zeros(rows, dtype=torch.bool, device=device)
    # Prompts by length, rows by prompt: neighbours are then alike, and rows of a prompt together.
    order_P = sorted(range(len(batch.prompts)), key=lambda p: (len(batch.prompts[p]), p))
    place_P = torch.empty(len(order_P), dtype=torch.long)
    place_P[order_P] = torch.arange(len(order_P))
    prompt_of_B = place_P.to(device)[batch.prompt_of_B]
    row_L = prompt_of_B.argsort(stable=True)
    reading = read([batch.prompts[p] for p in order_P], steps)
    logits_LV = reading.start(prompt_of_B[row_L], steps)
    for step in range(steps):
        chosen = sample_tokens(
            logits_LV,
            batch.uniform_BT[row_L, step],
            temperature=batch.temperature,
            top_p=batch.top_p,
        )
        tokens_BT[row_L, step] = chosen.tokens_B
        logprobs_BT[row_L, step] = chosen.logprobs_B
        length_B[row_L[~finished_L]] = step + 1
        finished_L |= torch.isin(chosen.tokens_B, end_tokens)
        finished_L |= batch.limit_B[row_L] <= step + 1
        if stopped is not None and (step + 1) % STOP_EVERY == 0:
            going_L = (~finished_L).nonzero()[:, 0]
            finished_L[going_L] = stopped(tokens_BT[row_L[going_L], : step + 1])
        finished = int(finished_L.sum())
        if finished == len(row_L):
            break
        token_L = chosen.tokens_B
        if finished > COMPACT_SHARE * len(row_L):
            kept_M = (~finished_L).nonzero()[:, 0]
            reading.keep(kept_M)
            row_L, finished_L, token_L = row_L[kept_M], finished_L[kept_M], token_L[kept_M]
        logits_LV = reading.step(token_L)
    return Decoded(tokens_BT, logprobs_BT, length_B)
