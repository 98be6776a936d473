"""Forward passes for logits, and decoding with the model's own attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignlab.generation.kv_cache import expand, new_cache, select


class Padded(NamedTuple):
    """Prompts as rows of equal width."""

    ids_PT: Tensor
    mask_PT: Tensor | None
    """1 where a token is real; None where nothing is padded."""
    positions_PT: Tensor


class Forward:
    """Forward pass of a model with the arguments of its signature, inspected once.

    Args:
        model: a transformers model, or a peft model around one.
        through: caller of forward passes of sharded weights; None calls them directly.
    """

    def __init__(
        self, model: Any, through: Callable[[Callable[[], Tensor]], Tensor] | None = None
    ) -> None:
        self.model, self.through = model, through
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        accepted = inspect.signature(inner.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._takes_keep = "logits_to_keep" in accepted

    def __call__(
        self,
        ids_PT: Tensor,
        mask_PT: Tensor | None,
        positions_PT: Tensor,
        *,
        cache: Any = None,
        keep: int = 1,
    ) -> Tensor:
        """Return the logits of the last `keep` positions, shape (P, keep, V)."""
        inputs: dict[str, Any] = {"input_ids": ids_PT, "attention_mask": mask_PT}
        if self._takes_positions:
            inputs["position_ids"] = positions_PT
        if self._takes_keep:
            # Positions, as a slice is a view that a frozen head (under an adapter) is multiplied
            # with once per prompt, by as many copies of its weight.
            last = ids_PT.shape[1]
            inputs["logits_to_keep"] = torch.arange(last - keep, last, device=ids_PT.device)
        inputs["use_cache"] = cache is not None
        if cache is not None:
            inputs["past_key_values"] = cache

        def forward() -> Tensor:
            logits_PTV: Tensor = self.model(**inputs).logits
            return logits_PTV[:, -keep:]

        return forward() if self.through is None else self.through(forward)


def left_padded(
    prompts: Sequence[Sequence[int]], device: torch.device, *, multiple: int = 1
) -> Padded:
    """Pad prompts on the left to a common width, a multiple of the given one."""
    width = -(-max(len(p) for p in prompts) // multiple) * multiple
    ids_PT = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    if all(len(p) == width for p in prompts):
        return Padded(ids_PT, None, torch.arange(width, device=device).expand_as(ids_PT))
    pad_P = torch.tensor([width - len(p) for p in prompts], device=device)
    mask_PT = (torch.arange(width, device=device) >= pad_P[:, None]).long()
    return Padded(ids_PT, mask_PT, (mask_PT.cumsum(dim=-1) - 1).clamp(min=0))


@torch.no_grad()  # sharded weights gathered in inference mode could not be trained afterwards
def last_logits(model: Any, prompts: Sequence[Sequence[int]], *, keep: int = 1) -> Tensor:
    """Return logits at the last `keep` positions of each prompt, shape (P, keep, V)."""
    return Forward(model)(*left_padded(prompts, model.device), keep=keep)


class PlainReading:
    """Decoding with the model's own attention and a copy of the prompt's states per sample.

    For models that `shared.py` cannot serve.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        through: Callable[[Callable[[], Tensor]], Tensor] | None = None,
    ) -> None:
        self._forward = Forward(model, through)
        self._cache = new_cache(model.config)
        self._prompts = prompts
        self._mask_LC: Tensor | None = None
        self._position_L1 = torch.empty(0)

    def start(self, prompt_of_L: Tensor, steps: int) -> Tensor:
        """Read the prompts; return the logits of each row's first token, shape (L, V).

        Args:
            prompt_of_L: index of the prompt that each row continues.
            steps: most tokens that will follow.
        """
        device = prompt_of_L.device
        padded = left_padded(self._prompts, device)
        logits_PV = self._forward(*padded, cache=self._cache)[:, -1]
        if padded.mask_PT is not None:
            new_PS = padded.mask_PT.new_ones((len(self._prompts), steps))
            self._mask_LC = torch.cat([padded.mask_PT, new_PS], dim=1)[prompt_of_L]
        expand(self._cache, prompt_of_L, steps)
        length_P = torch.tensor([len(p) for p in self._prompts], device=device)
        self._position_L1 = length_P[prompt_of_L][:, None]
        return logits_PV[prompt_of_L]

    def step(self, token_L: Tensor) -> Tensor:
        """Feed each row's newest token; return the logits of its next one, shape (L, V)."""
        seen = self._cache.get_seq_length() + 1
        mask_LT = None if self._mask_LC is None else self._mask_LC[:, :seen]
        logits_LTV = self._forward(token_L[:, None], mask_LT, self._position_L1, cache=self._cache)
        self._position_L1 = self._position_L1 + 1
        return logits_LTV[:, -1]

    def keep(self, row_M: Tensor) -> None:
        """Continue with the given rows only."""
        select(self._cache, row_M)
        self._position_L1 = self._position_L1[row_M]
        if self._mask_LC is not None:
            self._mask_LC = self._mask_LC[row_M]
