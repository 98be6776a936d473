"""The decoding loop: each distinct prompt is read once, its samples share that reading.

Prompts of one batch are padded on the left; the cache of the prompts is expanded to one row per
sample; finished rows are taken out of the batch as they gather.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignlab.generation.kv_cache import compact, expand, new_cache
from alignlab.generation.sampling import choose

STOP_EVERY = 8
"""Steps between two looks for stop strings; what comes after one is cut off later."""
COMPACT_SHARE = 0.03
"""Finished share of the batch at which its rows are taken out."""


@dataclass(frozen=True)
class DecodeBatch:
    """Samples to draw for some prompts, all with the same temperature and nucleus."""

    prompts: tuple[tuple[int, ...], ...]
    """Token ids of each distinct prompt."""
    prompt_of_B: Tensor
    """Which prompt each row continues."""
    uniform_BT: Tensor
    """One float64 draw from [0, 1) per row and step, T steps at most."""
    limit_B: Tensor
    """Most new tokens per row."""
    temperature: float
    top_p: float


@dataclass(frozen=True)
class Decoded:
    """What was drawn; entries past a row's length mean nothing."""

    tokens_BT: Tensor
    logprobs_BT: Tensor
    """Log-probability in nats of each token at temperature 1, float32."""
    length_B: Tensor
    """New tokens per row, the end token included."""


@dataclass
class _Live:
    """The rows still in the batch; `rows_L` are their places in the result."""

    cache: Any
    rows_L: Tensor
    mask_LC: Tensor | None
    position_L: Tensor
    finished_L: Tensor

    def drop_finished(self) -> Tensor:
        """Take finished rows out; returns which of the old rows each new row is."""
        order_L = compact(self.cache, self.finished_L)
        self.rows_L, self.position_L = self.rows_L[order_L], self.position_L[order_L]
        self.finished_L = self.finished_L[order_L]
        if self.mask_LC is not None:
            self.mask_LC = self.mask_LC[order_L]
        return order_L


@torch.inference_mode()
def decode(
    model: Any,
    batch: DecodeBatch,
    end_tokens: Tensor,
    stopped: Callable[[Tensor], Tensor] | None = None,
) -> Decoded:
    """Continue every row until an end token, its limit, or a stop string.

    `stopped` is given the tokens so far of the unfinished rows, shape (rows, steps), every few
    steps, and says which of them hold a stop string.
    """
    rows, steps = batch.uniform_BT.shape
    device = batch.uniform_BT.device
    tokens_BT = torch.zeros((rows, steps), dtype=torch.long, device=device)
    logprobs_BT = torch.zeros((rows, steps), dtype=torch.float32, device=device)
    length_B = torch.zeros(rows, dtype=torch.long, device=device)
    live, logits_LV = _prefill(model, batch, steps)
    for step in range(steps):
        rows_L = live.rows_L
        chosen = choose(
            logits_LV,
            batch.uniform_BT[rows_L, step],
            temperature=batch.temperature,
            top_p=batch.top_p,
        )
        tokens_BT[rows_L, step] = chosen.tokens_B
        logprobs_BT[rows_L, step] = chosen.logprobs_B
        length_B[rows_L[~live.finished_L]] = step + 1
        live.finished_L |= torch.isin(chosen.tokens_B, end_tokens)
        live.finished_L |= batch.limit_B[rows_L] <= step + 1
        if stopped is not None and (step + 1) % STOP_EVERY == 0:
            going_L = (~live.finished_L).nonzero()[:, 0]
            live.finished_L[going_L] = stopped(tokens_BT[rows_L[going_L], : step + 1])
        finished = int(live.finished_L.sum())
        if finished == len(rows_L):
            break
        last_L = chosen.tokens_B
        if finished > COMPACT_SHARE * len(rows_L):
            last_L = last_L[live.drop_finished()]
        logits_LV = _step(model, live, last_L)
    return Decoded(tokens_BT, logprobs_BT, length_B)


@torch.inference_mode()
def last_logits(model: Any, prompts: Sequence[Sequence[int]], *, keep: int = 1) -> Tensor:
    """Logits at the last `keep` positions of each prompt, shape (prompts, keep, vocabulary)."""
    ids_PT, mask_PT = left_padded(prompts, model.device)
    return _forward(model, ids_PT, mask_PT, _positions(ids_PT, mask_PT), keep=keep)


def left_padded(
    prompts: Sequence[Sequence[int]], device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Token ids padded on the left, and their mask; None where nothing is padded."""
    width = max(len(p) for p in prompts)
    ids_PT = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    if all(len(p) == width for p in prompts):
        return ids_PT, None
    pad_P = torch.tensor([width - len(p) for p in prompts], device=device)
    return ids_PT, (torch.arange(width, device=device) >= pad_P[:, None]).long()


def _prefill(model: Any, batch: DecodeBatch, steps: int) -> tuple[_Live, Tensor]:
    """Read the prompts; give the batch's rows and the logits of their first token."""
    device = batch.uniform_BT.device
    ids_PT, mask_PT = left_padded(batch.prompts, device)
    cache = new_cache(model.config)
    logits_PV = _forward(model, ids_PT, mask_PT, _positions(ids_PT, mask_PT), cache=cache)[:, -1]
    mask_LC = None
    if mask_PT is not None:
        new_PS = mask_PT.new_ones((len(ids_PT), steps))
        mask_LC = torch.cat([mask_PT, new_PS], dim=1)[batch.prompt_of_B]
    length_P = torch.tensor([len(p) for p in batch.prompts], device=device)
    expand(cache, batch.prompt_of_B, steps)
    live = _Live(
        cache=cache,
        rows_L=torch.arange(len(batch.prompt_of_B), device=device),
        mask_LC=mask_LC,
        position_L=length_P[batch.prompt_of_B],
        finished_L=torch.zeros(len(batch.prompt_of_B), dtype=torch.bool, device=device),
    )
    return live, logits_PV[batch.prompt_of_B]


def _step(model: Any, live: _Live, last_L: Tensor) -> Tensor:
    """Feed each row's newest token; give the logits of its next one."""
    seen = live.cache.get_seq_length() + 1
    mask_LT = None if live.mask_LC is None else live.mask_LC[:, :seen]
    logits_LTV = _forward(
        model, last_L[:, None], mask_LT, live.position_L[:, None], cache=live.cache
    )
    live.position_L = live.position_L + 1
    return logits_LTV[:, -1]


def _positions(ids_PT: Tensor, mask_PT: Tensor | None) -> Tensor:
    if mask_PT is None:
        return torch.arange(ids_PT.shape[1], device=ids_PT.device).expand_as(ids_PT)
    return (mask_PT.cumsum(dim=-1) - 1).clamp(min=0)


def _forward(
    model: Any,
    ids_PT: Tensor,
    mask_PT: Tensor | None,
    positions_PT: Tensor,
    *,
    cache: Any = None,
    keep: int = 1,
) -> Tensor:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    accepted = inspect.signature(inner.forward).parameters
    inputs: dict[str, Any] = {"input_ids": ids_PT, "attention_mask": mask_PT}
    if "position_ids" in accepted:
        inputs["position_ids"] = positions_PT
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = keep
    if cache is None:
        inputs["use_cache"] = False
    else:
        inputs |= {"past_key_values": cache, "use_cache": True}
    logits_PTV: Tensor = model(**inputs).logits
    return logits_PTV[:, -keep:]
