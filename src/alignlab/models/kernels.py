"""Choose the attention of the packed forward: our tiles, or torch's FlexAttention.

The variable ALIGNLAB_ATTENTION names one of them; by default FlexAttention is taken on a GPU where
it computes the same outputs and gradients as the tiles and is faster, which is measured once a
machine for each shape of attention. A model's probe (`scorer.py`) compares it with the model's own.
"""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alignlab.errors import BadInput
from alignlab.models import attention, flex
from alignlab.models.dtypes import once_a_machine
from alignlab.models.packed import PackedBatch, TokenGroup, pack
from alignlab.models.tiles import layout

log = logging.getLogger(__name__)

VARIABLE = "ALIGNLAB_ATTENTION"
CHOICES = ("auto", "tiles", "flex")
LEAST_GAIN = 1.2
"""Time of the tiles over FlexAttention's from which it is taken."""
AGREEMENT = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Largest accepted distance of the two, relative to the norm of the tiles' values, by type."""
LENGTHS = ((110, 234), (400, 41))
"""Median tokens of prompts and responses in a measurement: chat and summaries."""
GROUPS = 24
ROUNDS = 3


class Shape(NamedTuple):
    """Shape of a model's attention."""

    heads: int
    key_heads: int
    size: int
    """Numbers of a head."""


def flex_wanted(base: Any) -> bool:
    """Return True where FlexAttention is to be tried for a transformers model.

    Raises:
        BadInput: ALIGNLAB_ATTENTION names no choice, or FlexAttention without a GPU.
    """
    choice = os.environ.get(VARIABLE) or "auto"
    if choice not in CHOICES:
        raise BadInput(f"{VARIABLE}: expected one of {', '.join(CHOICES)}, found {choice!r}")
    on_gpu = base.device.type == "cuda"
    if choice == "flex" and not on_gpu:
        raise BadInput(
            f"{VARIABLE}: flex: expected a GPU, as FlexAttention has no backward pass on a CPU; "
            f"found {base.device.type}"
        )
    if choice != "auto" or not on_gpu:
        return choice == "flex"
    shape = attention_shape(base)
    try:
        return shape is not None and gain(shape, base.dtype, base.device) >= LEAST_GAIN
    except torch.OutOfMemoryError:
        # Not kept for the machine: another run may have the memory.
        log.warning("FlexAttention is not used: the GPU has no memory left to measure it")
        return False


def attention_shape(base: Any) -> Shape | None:
    """Read the shape of a model's attention; None where its configuration does not name it."""
    config = base.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    if not isinstance(heads, int):
        return None
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(heads, getattr(config, "num_key_value_heads", None) or heads, size)


def gain(shape: Shape, dtype: torch.dtype, device: torch.device) -> float:
    """Return the tiles' time over FlexAttention's, measured once a machine; 0 where it fails."""
    # Only the GPU's name counts: cards of one kind share the figure.
    name = torch.cuda.get_device_name(device)
    kind = str(dtype).removeprefix("torch.")
    heads = f"{shape.heads}/{shape.key_heads} heads of {shape.size}"
    key = f"attention on {name}, torch {torch.__version__}, {kind}, {heads}"
    found = once_a_machine(key, lambda: {"flex_gain": round(compare(shape, dtype, device), 2)})
    return found["flex_gain"]


def compare(shape: Shape, dtype: torch.dtype, device: torch.device) -> float:
    """Measure the tiles' time over FlexAttention's, forward and backward; 0 where it is wrong.

    Raises:
        torch.OutOfMemoryError: the GPU has too little memory left.
    """
    ratios = []
    try:
        # A judge makes its scorer where gradients are off.
        with torch.inference_mode(False), torch.enable_grad():
            for prompt, response in LENGTHS:
                batch = pack(drawn_groups(GROUPS, prompt, response), device)
                reason, ratio = _timed(batch, shape, dtype)
                if reason:
                    log.warning("FlexAttention is not used: %s", reason)
                    return 0.0
                ratios.append(ratio)
        return min(ratios)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler's errors are of any type; the tiles serve instead
        log.warning("FlexAttention is not used: %s", str(error).strip().splitlines()[0])
        return 0.0


def drawn_groups(count: int, prompt: int, response: int, *, seed: int = 0) -> list[TokenGroup]:
    """Draw groups of two responses with log-normal lengths around two medians; tokens are 0."""
    rng = np.random.Generator(np.random.Philox(seed))
    spread = np.exp(rng.normal(0, 0.5, (count, 3)))
    lengths = (spread * (prompt, response, response)).clip(2, 2048).astype(int)
    return [
        TokenGroup(str(i), (0,) * int(p), ((0,) * int(a), (0,) * int(b)))
        for i, (p, a, b) in enumerate(lengths)
    ]


def _timed(batch: PackedBatch, shape: Shape, dtype: torch.dtype) -> tuple[str | None, float]:
    """Return why FlexAttention is wrong on a batch, if it is, and the ratio of the times."""
    device = batch.token_1T.device
    given = drawn_inputs(batch.token_1T.shape[1], shape, dtype, device)
    layouts = (layout(batch), flex.spans(batch))
    tokens = batch.tokens
    for tiles, others in zip(*(run_layout(one, given, tokens) for one in layouts), strict=True):
        apart = float((others.double() - tiles.double()).norm() / tiles.double().norm())
        if not apart <= AGREEMENT[dtype]:
            return f"its values are {apart:.2g} from the tiles', relative", 0.0
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for into, one in zip(times, layouts, strict=True):
            into.append(seconds(lambda one=one: run_layout(one, given, tokens), device))  # type: ignore[misc]
    return None, statistics.median(times[0]) / statistics.median(times[1])


def drawn_inputs(
    length: int, shape: Shape, dtype: torch.dtype, device: torch.device, *, seed: int = 0
) -> list[Tensor]:
    """Draw queries, keys, values (1, heads, T, D) and the outputs' gradient (1, T, heads, D)."""
    drawn = torch.Generator().manual_seed(seed)
    shapes = [(1, h, length, shape.size) for h in (shape.heads, shape.key_heads, shape.key_heads)]
    shapes.append((1, length, shape.heads, shape.size))
    return [torch.randn(s, generator=drawn).to(device, dtype) for s in shapes]


def run_layout(one: Any, given: Sequence[Tensor], tokens: int) -> list[Tensor]:
    """Run packed attention forward and backward; return output and gradients of q, k and v.

    Args:
        one: layout of the stream.
        given: queries, keys, values and the outputs' gradient (`drawn_inputs`).
        tokens: real positions; the outputs of the filling after them are arbitrary.
    """
    query, key, value = (t.detach().requires_grad_() for t in given[:3])
    with attention.packed([], one):
        found = attention.attention(None, query, key, value, None)[0][:, :tokens]
        gradients = torch.autograd.grad(found, (query, key, value), given[3][:, :tokens])
    return [found.detach(), *gradients]


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a piece of work, waiting for the GPU on both sides."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
