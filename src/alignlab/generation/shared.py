"""Decoding where samples share their prompt's keys and values, with a check of exactness.

A probe (`models/probe.py`) compares shared decoding with the model's own attention on a few short
prompts. Models that fail it decode as in `forward.py`; the reason and its cost are logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from alignlab.generation.decode import PrefixState
from alignlab.generation.forward import Forward, PlainReading, left_padded
from alignlab.generation.one_query import OneQueryCache, PromptStates, attending, bucket
from alignlab.models.adapters import base_of
from alignlab.models.attention import UnsupportedAttention
from alignlab.models.head import at_least_float32
from alignlab.models.prepacked import prepacked
from alignlab.models.probe import ProbeResult, judge_path, once_per_model, probe_groups
from alignlab.models.scorer import configs_of

log = logging.getLogger(__name__)

STEPS = 5
"""Tokens that each row of the probe adds to its prompt; more than a short window holds."""
COST = "1.5 to 3 times as slow, and every sample holds a copy of its prompt's keys and values"
"""Cost of readings that are not shared (docs/performance.md)."""
MOST_BUCKETS = 4
WORTH_SPLITTING = 1024
"""Padded positions that a further bucket of prompts must save."""
WIDTH_MULTIPLE = 16
"""Width that prompts are padded to a multiple of; products of equal shape share a kernel."""


class Reader:
    """Factory of readings for a model: shared where that is exact, else with its own attention.

    Args:
        model: a transformers model, or a peft model around one.
        tokenizer: tokenizer of the model, for a probe on likely text.
        through: caller of forward passes of sharded weights; None calls them directly.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        through: Callable[[Callable[[], Tensor]], Tensor] | None = None,
    ) -> None:
        self._model, self._through = model, through
        self._base = base_of(model)
        self._forward = Forward(model, through)
        self._configs = configs_of(self._base)
        self._tokenizer = tokenizer
        found = once_per_model(self._base, SharedReading, self._probe, self._of_stand_in)
        self._limit = found.limit
        self.fallback = found.reason
        """Reason why readings use the model's own attention; None when they are shared."""
        self._warned = False

    def __call__(self, prompts: Sequence[Sequence[int]], steps: int) -> PrefixState:
        """Make a reading of prompts, sorted by length, that `steps` tokens may follow."""
        longest = max(map(len, prompts)) + steps
        if self.fallback is None and self._limit is not None and longest > self._limit:
            self.fallback = f"up to {longest} tokens exceed the attention window of {self._limit}"
        if self.fallback is None:
            return SharedReading(self._forward, self._configs, prompts)
        if not self._warned:
            self._warned = True
            log.warning(
                "samples do not share their prompt's attention: %s; %s", self.fallback, COST
            )
        return PlainReading(self._model, prompts, self._through)

    def _of_stand_in(self, base: Any) -> ProbeResult:
        """Judge whether sharing is right for a model that stands in for a sharded one."""
        other = Reader(base, self._tokenizer)
        return ProbeResult(other.fallback, other._limit)

    def _probe(self) -> ProbeResult:
        """Judge whether sharing is right for this model."""
        name = type(self._base).__name__
        outside = ProbeResult(f"{name} does not use transformers' attention interface")
        if not getattr(self._base, "_supports_attention_backend", False):
            return outside
        groups = probe_groups(self._base.config.get_text_config().vocab_size, self._tokenizer)
        prompts = [group.prompt_T for group in sorted(groups, key=lambda g: len(g.prompt_T))]
        rows = [r[:STEPS] for group in groups for r in group.responses]
        token_TL = torch.tensor(rows, device=self._base.device).T
        caches: list[OneQueryCache] = []

        def own() -> Tensor:
            return _forced(PlainReading(self._model, prompts, self._through), token_TL)

        def shared() -> Tensor:
            reading = SharedReading(self._forward, self._configs, prompts)
            caches.append(reading.cache)
            return _forced(reading, token_TL)

        try:
            verdict = judge_path(self._base, own, shared, lambda: caches[-1].windows)
        except (UnsupportedAttention, TypeError, ValueError, RuntimeError, IndexError) as error:
            return ProbeResult(f"{name}: {str(error).splitlines()[0]}")
        if not caches[-1].calls:
            return outside
        if verdict.reason:
            return ProbeResult(f"shared prompts give {name} {verdict.reason}")
        return verdict


class SharedReading:
    """State in which samples share their prompt's keys and values, one row each."""

    def __init__(
        self, forward: Forward, configs: list[Any], prompts: Sequence[Sequence[int]]
    ) -> None:
        self._forward, self._configs, self._prompts = forward, configs, prompts
        self.cache = OneQueryCache([])
        self._position_L1 = torch.empty(0)
        self._products: AbstractContextManager[None] = nullcontext()

    def start(self, prompt_of_L: Tensor, steps: int) -> Tensor:
        """Read the prompts; return the logits of each row's first token, shape (L, V).

        Rows are sorted by prompt.
        """
        if self._forward.through is None:  # shards are gathered anew for each product
            self._products = prepacked(self._forward.model, len(prompt_of_L), steps)
        device = prompt_of_L.device
        lengths = [len(p) for p in self._prompts]
        logits = []
        for first, last in _spans(lengths):
            padded = left_padded(self._prompts[first:last], device, multiple=WIDTH_MULTIPLE)
            cache = _PromptCache()
            logits.append(self._forward(*padded, cache=cache)[:, -1])
            within = (prompt_of_L >= first) & (prompt_of_L < last)
            real_GP = padded.mask_PT
            if real_GP is None:
                real_GP = torch.ones_like(padded.ids_PT)
            self.cache.buckets.append(
                bucket(
                    tuple(cache.states),
                    real_GP.bool(),
                    prompt_of_L[within] - first,
                    first=int((prompt_of_L < first).sum()),
                )
            )
        self._position_L1 = torch.tensor(lengths, device=device)[prompt_of_L][:, None]
        return torch.cat(logits)[prompt_of_L]

    def step(self, token_L: Tensor) -> Tensor:
        """Feed each row's newest token; return the logits of its next one, shape (L, V)."""
        with attending(self._configs, self.cache), self._products:
            logits_L1V = self._forward(token_L[:, None], None, self._position_L1, cache=self.cache)
        self.cache.advance()
        self._position_L1 = self._position_L1 + 1
        return logits_L1V[:, 0]

    def keep(self, row_M: Tensor) -> None:
        """Continue with the given rows only, in rising order."""
        self.cache.keep(row_M)
        self._position_L1 = self._position_L1[row_M]


class _PromptCache(Cache):
    """Cache that records the keys and values of one forward pass."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=DynamicLayer)
        self.states: list[PromptStates] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Record the states of a layer; layers come in order, once each."""
        keys = at_least_float32(key_states).contiguous()
        self.states.append(PromptStates(keys, value_states.contiguous()))
        return key_states, value_states


def _spans(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Group prompts, given by rising length, into runs that are padded to a common one."""
    spans = [(0, len(lengths))]
    length_N = np.asarray(lengths)
    while len(spans) < MOST_BUCKETS:
        saved, place, index = max(
            (*_best_split(length_N[first:last]), i) for i, (first, last) in enumerate(spans)
        )
        if saved < WORTH_SPLITTING:
            break
        first, last = spans[index]
        spans[index : index + 1] = [(first, first + place), (first + place, last)]
    return spans


def _best_split(length_N: np.ndarray) -> tuple[int, int]:
    """Return the padded positions that the best split saves, and its place."""
    if len(length_N) < 2:
        return 0, 0
    place_N = np.arange(1, len(length_N))
    saved_N = place_N * (length_N[-1] - length_N[:-1])
    best = int(saved_N.argmax())
    return int(saved_N[best]), int(place_N[best])


def _forced(reading: PrefixState, token_TL: Tensor) -> Tensor:
    """Return the log-probabilities of given tokens, (6 T - 1,), in two rows of each of 3 prompts.

    The second row is taken out before the last token.
    """
    row_L = torch.arange(6, device=token_TL.device)
    kept_M = row_L[row_L != 1]
    logits = [reading.start(row_L // 2, len(token_TL))]
    logits += [reading.step(token_L) for token_L in token_TL[:-2]]
    reading.keep(kept_M)
    logits.append(reading.step(token_TL[-2][kept_M]))
    tokens = [*token_TL[:-1], token_TL[-1][kept_M]]
    return torch.cat(
        [
            logit_LV.double().log_softmax(dim=-1).gather(1, token_L[:, None])[:, 0]
            for logit_LV, token_L in zip(logits, tokens, strict=True)
        ]
    )
