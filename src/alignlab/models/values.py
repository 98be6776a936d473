"""Add a value head to a decoder: expected return at each response token, for PPO.

The head is linear on the body's last hidden states, at the rows that predict the tokens:
log-probabilities and values come from one forward pass. Its weights start at zero.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from alignlab.errors import BadInput
from alignlab.models.adapters import base_of
from alignlab.models.load import LanguageModel
from alignlab.models.packed import Targets, TokenGroup
from alignlab.models.scorer import EmbeddingNoise, ResponseScorer, TokenLogps, padded_rows

FILE = "value_head.safetensors"
"""File of the head in a model's folder: `bias` and `weight` of a linear layer of one output."""


@dataclass(frozen=True)
class TokenValues(TokenLogps):
    """Log-probability of every response token of a micro-batch, and value before it."""

    value_R: Tensor
    """Expected return, float32, with gradient."""


class ModelWithValueHead(torch.nn.Module):
    """Model and value head as one module.

    Args:
        model: a decoder, or a peft model around one.
        head: a linear layer of one output on the decoder's hidden states.
    """

    def __init__(self, model: Any, head: torch.nn.Linear) -> None:
        super().__init__()
        self.model, self.head = model, head


def value_head(lm: LanguageModel) -> torch.nn.Linear:
    """Make a value head with weights 0.

    Raises:
        BadInput: the model has no body apart from its vocabulary head.
    """
    base = base_of(lm.model)
    if base.base_model is base:
        raise BadInput(f"{lm.name}: {type(base).__name__} has no body to put a value head on")
    width = base.get_output_embeddings().weight.shape[1]
    head = torch.nn.Linear(width, 1, device=lm.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head


def save_value_head(head: Mapping[str, Tensor], folder: str | Path) -> Path:
    """Write `weight` and `bias` of a value head into a model's folder, atomically."""
    path = Path(folder) / FILE
    partial = path.with_suffix(".partial")
    save_file({k: v.float().contiguous() for k, v in head.items()}, partial)
    os.replace(partial, path)
    return path


def load_value_head(lm: LanguageModel, folder: str | Path) -> torch.nn.Linear:
    """Load the value head of a model's folder.

    Raises:
        BadInput: the folder holds no head, or one for a body of another width.
    """
    path = Path(folder) / FILE
    head = value_head(lm)
    try:
        head.load_state_dict(load_file(path))
    except (OSError, RuntimeError) as error:
        raise BadInput(
            f"{path}: expected a value head of {head.in_features} inputs, found: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return head.to(lm.device)


class ValueScorer(ResponseScorer):
    """Scorer of log-probabilities and values of response tokens, with the options of `Scorer`."""

    def __init__(self, model: ModelWithValueHead, **options: Any) -> None:
        self.head = model.head
        super().__init__(model.model, **options)

    def _unprobed(self, base: Any) -> ResponseScorer:
        return ResponseScorer(base, padded_because="it is probed", tokenizer=self._tokenizer)

    def _predicted(self, hidden_Rd: Tensor, targets: Targets) -> TokenValues:
        logps = super()._predicted(hidden_Rd, targets)
        return TokenValues(logps.logp_R, targets, self._values_of(hidden_Rd)[: len(logps.logp_R)])

    @contextmanager
    def _padded(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> Iterator[TokenValues]:
        with _last_hidden(self.base.base_model) as seen, super()._padded(groups, noise) as scored:
            (hidden,) = seen
            row_R = padded_rows(groups, hidden.shape[1], hidden.device)
            hidden_Rd = hidden.flatten(0, 1).index_select(0, row_R)
            yield TokenValues(scored.logp_R, scored.targets, self._values_of(hidden_Rd))

    def _values_of(self, hidden_Rd: Tensor) -> Tensor:
        """Compute values in float32, also where the body runs in bfloat16; (R,)."""
        weight, bias = self.head.weight.float(), self.head.bias.float()
        return torch.nn.functional.linear(hidden_Rd.float(), weight, bias)[:, 0]


@contextmanager
def _last_hidden(body: Any) -> Iterator[list[Tensor]]:
    """Record the hidden states that a body returns inside the block."""
    seen: list[Tensor] = []
    handle = body.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    try:
        yield seen
    finally:
        handle.remove()
