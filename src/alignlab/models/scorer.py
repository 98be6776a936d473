"""Log-probabilities of responses under a model: packed where that is exact, plain elsewhere.

Whether the packed forward is exact for a model is not looked up but tried: a probe compares it
with the model's own forward on a few short groups. What fails it (state-space layers, attention
outside transformers' interface, sinks, a head that is more than a linear map) runs as padded
batches of whole sequences, and the reason is logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from alignlab.models import attention
from alignlab.models.adapters import base_of
from alignlab.models.head import row_logps
from alignlab.models.packed import Targets, TokenGroup, make_targets, pack, rounded_up
from alignlab.models.tiles import layout

log = logging.getLogger(__name__)

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest difference in nats per token between packed and plain in the probe."""
HALF_TOLERANCE = 0.25
"""The same for bfloat16 and float16, whose rounding alone makes some hundredths."""


@dataclass(frozen=True)
class TokenLogps:
    """Log-probabilities of every response token of a micro-batch."""

    logp_R: Tensor
    """In nats, with gradient."""
    targets: Targets

    def sequence_N(self) -> Tensor:
        """Sum over each sequence's response tokens, in float64."""
        total = torch.zeros(
            len(self.targets.length_N), dtype=torch.float64, device=self.logp_R.device
        )
        return total.index_add(0, self.targets.sequence_R, self.logp_R.double())


@dataclass
class EmbeddingNoise:
    """NEFTune's noise (arXiv 2310.05914): uniform(-1, 1) * alpha / sqrt(L * d) on embeddings."""

    alpha: float
    generator: torch.Generator


class ResponseScorer:
    """Scores groups of responses under one model.

    Args:
        model: a transformers decoder, or a peft model around one.
        plain_because: a reason not to use the packed forward at all.
    """

    def __init__(self, model: Any, *, plain_because: str | None = None) -> None:
        self.base = base_of(model)
        self.limit: int | None = None
        """Longest prompt + response that the packed forward serves exactly; None is no limit."""
        self.fallback = plain_because or self._probe()
        """Why batches are plain; None when they are packed."""
        if self.fallback:
            log.warning("plain per-sequence batches: %s", self.fallback)

    @contextmanager
    def scored(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None = None
    ) -> Iterator[TokenLogps]:
        """Score groups; take gradients inside the `with` block."""
        longest = max(group.longest for group in groups)
        if self.fallback is None and self.limit is not None and longest > self.limit:
            self.fallback = (
                f"a sequence of {longest} tokens exceeds the attention window of {self.limit}"
            )
            log.warning("plain per-sequence batches: %s", self.fallback)
        with (
            self._packed(groups, noise)
            if self.fallback is None
            else self._plain(groups, noise) as found
        ):
            yield found

    @contextmanager
    def _packed(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> Iterator[TokenLogps]:
        batch = pack(groups, self.base.device)
        lengths = torch.tensor([g.longest for g in groups])
        length_1T = lengths.repeat_interleave(torch.tensor([g.tokens for g in groups]))[None]
        length_1T = pad(length_1T, (0, batch.token_1T.shape[1] - batch.tokens), value=1)
        head = self.base.get_output_embeddings()
        with (
            attention.packed(_configs(self.base), layout(batch)) as self._seen,
            _noisy(self.base, length_1T, noise),
        ):
            hidden = self.base.base_model(
                input_ids=batch.token_1T, position_ids=batch.position_1T, use_cache=False
            )[0]
            filling = (0, rounded_up(len(batch.row_R)) - len(batch.row_R))
            logps = row_logps(
                hidden[0].index_select(0, pad(batch.row_R, filling)),
                head.weight,
                head.bias,
                pad(batch.targets.token_R, filling),
                softcap=getattr(_text_config(self.base), "final_logit_softcapping", None),
            )
            yield TokenLogps(logps[: len(batch.row_R)], batch.targets)

    @contextmanager
    def _plain(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> Iterator[TokenLogps]:
        sequences = [(g.prompt_T, r, g.longest) for g in groups for r in g.responses]
        width = max(len(prompt) + len(response) for prompt, response, _ in sequences)
        token_NT = np.zeros((len(sequences), width), dtype=np.int64)
        mask_NT = np.zeros_like(token_NT)
        rows: list[np.ndarray] = []
        for n, (prompt, response, _) in enumerate(sequences):
            end = len(prompt) + len(response)
            token_NT[n, :end] = prompt + response
            mask_NT[n, :end] = 1
            rows.append(n * width + np.arange(len(prompt) - 1, end - 1))
        device = self.base.device
        length_N1 = torch.tensor([[longest] for _, _, longest in sequences])
        with _noisy(self.base, length_N1, noise):
            logits = self.base(
                input_ids=torch.from_numpy(token_NT).to(device),
                attention_mask=torch.from_numpy(mask_NT).to(device),
                use_cache=False,
            ).logits
        targets = make_targets(groups, device)
        row_R = torch.from_numpy(np.concatenate(rows)).to(device)
        chosen_RV = logits.flatten(0, 1).index_select(0, row_R)
        if chosen_RV.dtype in (torch.bfloat16, torch.float16):
            chosen_RV = chosen_RV.float()
        token_logit_R = chosen_RV.gather(1, targets.token_R[:, None])[:, 0]
        yield TokenLogps(token_logit_R - torch.logsumexp(chosen_RV, dim=1), targets)

    def _probe(self) -> str | None:
        """Why the packed forward is not exact for this model; None when it is."""
        if not getattr(self.base, "_supports_attention_backend", False):
            return f"{type(self.base).__name__} does not use transformers' attention interface"
        if self.base.base_model is self.base:
            return f"{type(self.base).__name__} has no body apart from its head"
        if type(self.base.get_output_embeddings()) is not torch.nn.Linear:
            return f"the vocabulary head of {type(self.base).__name__} is not a linear layer"
        groups = _probe_groups(_text_config(self.base).vocab_size)
        training = self.base.training
        self.base.eval()
        try:
            with torch.no_grad():
                with self._plain(groups, None) as plain:
                    expected_R = plain.logp_R
                with self._packed(groups, None) as packed:
                    found_R = packed.logp_R
        except (attention.Unserved, TypeError, ValueError, RuntimeError) as error:
            return f"{type(self.base).__name__}: {str(error).splitlines()[0]}"
        finally:
            self.base.train(training)
        if not self._seen.calls:
            return f"{type(self.base).__name__} does not use transformers' attention interface"
        self.limit = self._window()
        worst = float((expected_R - found_R).abs().max())
        if not worst <= TOLERANCE.get(self.base.dtype, HALF_TOLERANCE):
            return (
                f"{type(self.base).__name__} gives other values for packed groups "
                f"(by {worst:.2g} nats)"
            )
        return None

    def _window(self) -> int | None:
        """The longest sequence served where the model has a window it does not tell attention."""
        config = _text_config(self.base)
        window = getattr(config, "sliding_window", None)
        if getattr(config, "use_sliding_window", None) is False or window in self._seen.windows:
            window = None
        limits = [w for w in (window, getattr(config, "attention_chunk_size", None)) if w]
        return min(limits, default=None)


def _configs(model: Any) -> list[Any]:
    """The distinct configurations that a model's layers read."""
    found = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    return list(found.values())


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()


def _probe_groups(vocabulary: int) -> list[TokenGroup]:
    """Two small groups with random tokens, the same every time."""
    rng = np.random.Generator(np.random.Philox(7))

    def draw(length: int) -> tuple[int, ...]:
        return tuple(int(t) for t in rng.integers(0, vocabulary, length))

    return [
        TokenGroup("probe-0", draw(9), (draw(5), draw(7))),
        TokenGroup("probe-1", draw(6), (draw(8), draw(3))),
    ]


def _noisy(model: Any, length: Tensor, noise: EmbeddingNoise | None) -> Any:
    """Embedding noise for one forward; `length` broadcasts over (batch, T)."""
    if noise is None:
        return nullcontext()

    def hook(module: Any, inputs: Any, embedded: Tensor) -> Tensor:
        drawn = torch.rand(embedded.shape, generator=noise.generator).mul_(2).sub_(1)
        bound = noise.alpha / (length * embedded.shape[-1]).sqrt()
        return embedded + (drawn * bound[..., None]).to(embedded)

    return _hooked(model.get_input_embeddings(), hook)


@contextmanager
def _hooked(module: Any, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
