"""Decoding where samples share their prompt's keys and values, with a check of exactness.

A probe compares shared decoding with the model's own attention on a few short prompts. Models that
fail it decode as in `forward.py`, and the reason is logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from alignlab.generation.decode import Reading
from alignlab.generation.forward import Forward, PlainReading, left_padded
from alignlab.generation.one_query import OneQueryCache, PromptStates, attending, bucket
from alignlab.models.adapters import base_of
from alignlab.models.attention import UnsupportedAttention

log = logging.getLogger(__name__)

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest difference in nats per token between shared and own attention in the probe."""
HALF_TOLERANCE = 0.25
"""Largest difference for bfloat16 and float16, whose rounding alone makes some hundredths."""
MOST_BUCKETS = 4
WORTH_SPLITTING = 1024
"""Padded positions that a further bucket of prompts must save."""
WIDTH_MULTIPLE = 16
"""Width that prompts are padded to a multiple of; products of equal shape share a kernel."""


class Reader:
    """Factory of readings for a model: shared where that is exact, else with its own attention."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._base = base_of(model)
        self._forward = Forward(model)
        self._configs = _configs(self._base)
        self._limit: int | None = None
        self.fallback = self._probe()
        """Reason why readings use the model's own attention; None when they are shared."""
        if self.fallback:
            log.warning("samples do not share their prompt's attention: %s", self.fallback)

    def __call__(self, prompts: Sequence[Sequence[int]], steps: int) -> Reading:
        """Make a reading of prompts, sorted by length, that `steps` tokens may follow."""
        longest = max(map(len, prompts)) + steps
        if self.fallback is None and self._limit is not None and longest > self._limit:
            self.fallback = f"up to {longest} tokens exceed the attention window of {self._limit}"
            log.warning("samples do not share their prompt's attention: %s", self.fallback)
        if self.fallback is None:
            return SharedReading(self._forward, self._configs, prompts)
        return PlainReading(self._model, prompts)

    @torch.inference_mode()
    def _probe(self) -> str | None:
        """Return the reason why sharing is not exact for this model; None when it is."""
        name = type(self._base).__name__
        if not getattr(self._base, "_supports_attention_backend", False):
            return f"{name} does not use transformers' attention interface"
        vocabulary = self._base.config.get_text_config().vocab_size
        rng = np.random.Generator(np.random.Philox(7))
        prompts = [rng.integers(0, vocabulary, length).tolist() for length in (3, 5, 9)]
        token_TL = torch.from_numpy(rng.integers(0, vocabulary, (4, 5))).to(self._base.device)
        training = self._base.training
        self._base.eval()
        try:
            reading = SharedReading(self._forward, self._configs, prompts)
            found = _forced(reading, token_TL)
            expected = _forced(PlainReading(self._model, prompts), token_TL)
        except (UnsupportedAttention, TypeError, ValueError, RuntimeError, IndexError) as error:
            return f"{name}: {str(error).splitlines()[0]}"
        finally:
            self._base.train(training)
        if not reading.cache.calls:
            return f"{name} does not use transformers' attention interface"
        self._limit = _hidden_window(self._base.config.get_text_config(), reading.cache.windows)
        worst = float((expected - found).abs().max())
        if not worst <= TOLERANCE.get(self._base.dtype, HALF_TOLERANCE):
            return f"{name} gives other values where prompts are shared (by {worst:.2g})"
        return None


class SharedReading:
    """Reading in which samples share their prompt's keys and values, one row each."""

    def __init__(
        self, forward: Forward, configs: list[Any], prompts: Sequence[Sequence[int]]
    ) -> None:
        self._forward, self._configs, self._prompts = forward, configs, prompts
        self.cache = OneQueryCache([])
        self._position_L1 = torch.empty(0)

    def start(self, prompt_of_L: Tensor, steps: int) -> Tensor:
        """Read the prompts; return the logits of each row's first token, shape (L, V).

        Rows are sorted by prompt.
        """
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
        with attending(self._configs, self.cache):
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
        self.states.append(PromptStates(key_states.contiguous(), value_states.contiguous()))
        return key_states, value_states


def _hidden_window(config: Any, known: set[int]) -> int | None:
    """Return the longest exact sequence of a model with a window hidden from attention."""
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", None) is False or window in known:
        window = None
    limits = [w for w in (window, getattr(config, "attention_chunk_size", None)) if w]
    return min(limits, default=None)


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


def _forced(reading: Reading, token_TL: Tensor) -> Tensor:
    """Return log-probabilities, (T, L, V), of given tokens; the last step skips the second row."""
    prompt_of_L = torch.tensor([0, 0, 1, 2, 2], device=token_TL.device)
    kept_M = torch.tensor([0, 2, 3, 4], device=token_TL.device)
    found = [reading.start(prompt_of_L, len(token_TL))]
    found += [reading.step(token_L) for token_L in token_TL[:-1]]
    reading.keep(kept_M)
    found.append(reading.step(token_TL[-1][kept_M]))
    return torch.cat(found).double().log_softmax(dim=-1)


def _configs(model: Any) -> list[Any]:
    """Return the distinct configurations that a model's layers read."""
    found = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    return list(found.values())
