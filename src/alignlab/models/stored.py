"""Measure the memory of the tensors that autograd stores in a pass.

A model that is not loaded is built on the meta device, where tensors have shapes and no content; an
attention that computes nothing stands in for the packed path's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from alignlab.models.load import base_of_adapter, is_adapter
from alignlab.models.locate import HUB_SMALL_FILES, locate

log = logging.getLogger(__name__)

POSITIONS = 64
"""Positions of the pass."""
ATTENTION = "alignlab_shapes"
"""Name of the attention, in transformers' interface."""


@lru_cache(maxsize=16)
def stored_bytes(path: str, width: int) -> int | None:
    """Return the bytes stored per position by all layers of a decoder; None if it is not built.

    Args:
        path: folder of the model, or of an adapter on it.
        width: bytes of a number in the compute type: 2 or 4.
    """
    if not Path(path).is_dir():
        return None
    try:
        folder = Path(path)
        if is_adapter(folder):
            folder = locate(base_of_adapter(folder), files=HUB_SMALL_FILES)
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(folder)
            dtype = torch.bfloat16 if width == 2 else torch.float32
            model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
        model.tie_weights()
        return _measured(model.eval())
    except Exception as error:  # architectures differ in what they need on the meta device
        log.debug("%s: memory of a pass from the shape alone: %s", Path(path).name, error)
        return None


def _measured(model: Any) -> int:
    """Return the bytes stored per position in a pass through the model's body."""
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)
    model.config.get_text_config()._attn_implementation = ATTENTION
    shape = 1, POSITIONS

    def run() -> None:
        model.base_model(
            input_ids=torch.zeros(shape, dtype=torch.long),
            position_ids=torch.zeros(shape, dtype=torch.long),
            # A mask that is made already; transformers would look into a shorter one.
            attention_mask=torch.ones((1, 1, POSITIONS, POSITIONS), dtype=torch.bool),
            use_cache=False,
        )

    with torch.device("meta"):
        return stored_by(run, model.parameters()) // POSITIONS


def stored_by(run: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Return the bytes that autograd stores in a forward pass, parameters left out.

    Args:
        run: the pass.
        parameters: parameters of the model.
    """
    own = {p.untyped_storage()._cdata for p in parameters}
    seen: dict[int, int] = {}
    held: list[Tensor] = []  # a freed storage's number would be given to another

    def pack(tensor: Tensor) -> Tensor:
        storage, plain = tensor.untyped_storage(), tensor.detach()
        if storage._cdata not in own:
            seen[storage._cdata] = storage.nbytes()
            held.append(plain)
        return plain  # with its history the graph would hold itself, and the model, forever

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return sum(seen.values())


class _Attention(torch.autograd.Function):
    """Attention that stores queries, keys, values and outputs, and computes nothing."""

    @staticmethod
    def forward(ctx: Any, q_BHTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor) -> Tensor:
        B, H, T, _ = q_BHTD.shape
        out_BTHD = q_BHTD.new_empty((B, T, H, v_BGTD.shape[-1]))
        ctx.save_for_backward(q_BHTD, k_BGTD, v_BGTD, out_BTHD)
        return out_BTHD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        raise NotImplementedError("only what a pass stores is measured")


def _attention(
    module: Any, q_BHTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, mask: Any, **options: Any
) -> tuple[Tensor, None]:
    return _Attention.apply(q_BHTD, k_BGTD, v_BGTD), None  # type: ignore[no-untyped-call]
