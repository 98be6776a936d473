"""Estimate the memory of a pass through a model on a CPU, from above.

A CPU's kernel kills a process that takes too much, without an exception to recover from, so passes
are planned. The tensors that autograd stores per position are measured on a short pass; what grows
with vocabulary and attention follows from the shapes of the two paths (`scorer.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from alignlab import machine
from alignlab.errors import BadInput
from alignlab.models import attention, head
from alignlab.models.memory import SAVED
from alignlab.models.packed import TokenGroup, rounded_up
from alignlab.models.prepacked import MOST_BYTES, copied_bytes
from alignlab.models.stored import stored_by

if TYPE_CHECKING:
    from alignlab.models.scorer import Scorer

log = logging.getLogger(__name__)

PROBE = 64
"""Positions of the pass on which stored tensors are measured."""

MARGIN = 1.2
"""Factor on estimates: measured peaks of SmolLM2-135M were 1.0 to 1.19 times what is counted."""

WORKING = 24
"""Tensors of a position's widest layer that a pass holds at once, besides those that it stores."""


@dataclass(frozen=True)
class Footprint:
    """Memory of passes through one model, in bytes."""

    stored: int
    """Stored for the backward pass per position."""
    working: int
    """Held for a moment per position."""
    vocabulary: int
    width: int
    """Width of the head's input."""
    element: int
    """Bytes of a number in the compute type."""
    layers: int
    heads: int
    eager: bool
    """True where the model's own attention holds all its probabilities."""
    trained_head: bool

    def bytes(self, groups: Sequence[TokenGroup], *, packed: bool, gradient: bool) -> int:
        """Estimate the memory of one pass over groups, from above.

        Args:
            groups: the micro-batch.
            packed: True for one stream with shared prompts, False for padded sequences.
            gradient: True for a forward and backward pass, False for a forward pass.
        """
        return int(MARGIN * self._counted(groups, packed=packed, gradient=gradient))

    def _counted(self, groups: Sequence[TokenGroup], *, packed: bool, gradient: bool) -> int:
        """Count the bytes of the tensors that a pass holds at its peak."""
        count = sum(len(group.responses) for group in groups)
        longest = max(group.longest for group in groups)
        rows = sum(group.response_tokens for group in groups)
        positions = rounded_up(sum(g.tokens for g in groups)) if packed else count * longest
        total = positions * (self.working + (self.stored if gradient else 0))
        pairs = sum(len(r) * g.longest for g in groups for r in g.responses)
        pairs += sum(len(g.prompt_T) ** 2 for g in groups)
        if packed:
            scores = pairs * self.heads * self.element
            kept = min(attention.KEEP_BYTES, scores) * self.layers
            return total + (kept if gradient else 0) + 4 * min(scores, 1 << 28) + self._head(rows)
        scores = count * longest**2 * self.heads * (4 + 2 * self.element)
        total += scores * (self.layers if gradient else 1) if self.eager else count * longest**2 * 4
        return total + self._logits(positions, rows, gradient=gradient)

    def _head(self, rows: int) -> int:
        """Estimate the memory of the packed path's head: a panel, residuals and its gradient."""
        panel = max(head.LEAST_ROWS, head.PANEL_ELEMENTS // self.vocabulary)
        held = min(rows, panel) * self.vocabulary * (self.element + 4)
        kept = min(rows * self.vocabulary * self.element, head.KEEP_BYTES)
        weight = self.vocabulary * self.width * (4 + self.element) if self.trained_head else 0
        return held + kept + weight

    def _logits(self, positions: int, rows: int, *, gradient: bool) -> int:
        """Estimate the memory of all logits of padded sequences, and of the responses' again."""
        wide = 4 if self.element < 4 else self.element
        if not gradient:
            return self.vocabulary * (positions * self.element + rows * (wide + self.element))
        weight = self.vocabulary * self.width * self.element if self.trained_head else 0
        return (
            self.vocabulary * (2 * positions * self.element + rows * (3 * wide + self.element))
            + weight
        )


def measure(base: Any, *, checkpointing: bool = False) -> Footprint:
    """Measure a model's footprint by a short pass through its body.

    Args:
        base: a transformers model, or a sequence classifier.
        checkpointing: True where layers are recomputed in the backward pass.
    """
    config = base.config.get_text_config()
    layers = getattr(config, "num_hidden_layers", 1)
    output = base.get_output_embeddings()
    widest = max((m.out_features for m in _linears(base) if m is not output), default=0)
    element = base.dtype.itemsize
    stored = _stored(base)
    if checkpointing:
        stored = stored // layers + layers * config.hidden_size * element
    return Footprint(
        stored=stored,
        working=WORKING * max(widest, config.hidden_size) * element // 2,
        vocabulary=config.vocab_size if output is not None else 1,
        width=config.hidden_size,
        element=element,
        layers=layers,
        heads=getattr(config, "num_attention_heads", 1),
        eager=base.config._attn_implementation == "eager",
        trained_head=output is not None and any(p.requires_grad for p in output.parameters()),
    )


class PassMemory:
    """Memory that is free for passes through a model; `fits` refuses micro-batches beyond it.

    Args:
        scorer: scorer of the micro-batches, whose path decides their memory.
        gradient: True for forward and backward passes.
        checkpointing: True where layers are recomputed in the backward pass.
        reserved: bytes that will be allocated before or besides the passes.
        room: bytes for a pass that an earlier plan of the same run found.
    """

    def __init__(
        self,
        scorer: Scorer[Any],
        *,
        gradient: bool,
        checkpointing: bool = False,
        reserved: int = 0,
        room: int | None = None,
    ) -> None:
        self._scorer, self._gradient = scorer, gradient
        self._footprint = measure(scorer.base, checkpointing=checkpointing)
        self._reserved = reserved
        free = machine.plannable_memory() - reserved
        self.room = free if room is None else min(free, room)
        self.binds = False
        """True once a micro-batch was refused."""

    def fits(self, groups: Sequence[TokenGroup]) -> bool:
        """Return True for a micro-batch that one pass has memory for."""
        if self._needed(groups) <= self.room:
            return True
        if not self.binds:
            log.warning(
                "memory: %s free for a pass; micro-batches are split to fit", gigabytes(self.room)
            )
        self.binds = True
        return False

    def check(self, groups: Sequence[TokenGroup]) -> None:
        """Refuse groups of which one does not fit alone.

        Raises:
            BadInput: such a group.
        """
        largest = max(groups, key=lambda group: self._needed([group]))
        needed = self._needed([largest])
        if needed > self.room:
            raise BadInput(
                f"memory: group {largest.id}: expected {gigabytes(needed + self._reserved)} for a "
                f"pass over its {largest.tokens} tokens with gradients and optimiser, found "
                f"{gigabytes(max(0, self.room + self._reserved))} free; shorter lengths, "
                "gradient_checkpointing=true, a lora adapter or a smaller model take less"
            )

    def _needed(self, groups: Sequence[TokenGroup]) -> int:
        packed = self._scorer.packs(groups)
        return self._footprint.bytes(groups, packed=packed, gradient=self._gradient)


def pass_memory(scorer: Scorer[Any], tokens: int, **options: Any) -> PassMemory | None:
    """Plan passes of at most so many tokens; None where their memory is no concern.

    None on accelerators, which raise an exception, and where the memory exceeds any need.
    """
    base = scorer.base
    plain = base.device.type == "cpu" and not getattr(base, "is_quantized", False)
    if not plain or not may_bind(base, tokens, options.get("reserved", 0)):
        return None
    return PassMemory(scorer, **options)


def rows_in_memory(base: Any, prompt: int, tokens: int, most: int) -> int:
    """Return how many samples of a batch have memory for keys, values and logits; at least one.

    Args:
        base: a transformers model.
        prompt: tokens of the longest prompt.
        tokens: most new tokens.
        most: rows of a batch where memory does not limit them.
    """
    if base.device.type != "cpu":
        return most
    config = base.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 1)
    wide = (getattr(config, "head_dim", None) or config.hidden_size // heads) * (
        getattr(config, "num_key_value_heads", None) or heads
    )
    cached = 2 * config.num_hidden_layers * wide * base.dtype.itemsize
    # The cache is doubled while it grows; logits, their softmax and a mask are float32.
    row = (prompt + 2 * tokens) * cached + 16 * config.vocab_size
    free = machine.plannable_memory() - min(copied_bytes(base), MOST_BYTES)
    return max(1, min(most, int(free // row)))


def may_bind(base: Any, tokens: int, reserved: int = 0) -> bool:
    """Return False where even a generous estimate of a pass of so many positions fits with ease."""
    wide = sum(m.in_features + m.out_features for m in _linears(base))
    # Padded, positions may be several times the tokens.
    return bool(reserved + 8 * wide * tokens * base.dtype.itemsize > machine.plannable_memory())


def refuse_training(
    parameters: int, trainable: int, *, frozen_copy: bool = False, alone: bool = False
) -> None:
    """Refuse a training whose weights, gradients and moments do not fit into memory.

    Args:
        parameters: parameters of the model, which is not loaded yet.
        trainable: number of those that are trained.
        frozen_copy: True where a copy of the initial weights is the reference.
        alone: True where an adapter is saved alone, not merged.

    Raises:
        BadInput: they do not fit.
    """
    # Float32 masters and a copy in the compute type, or this copy and the pages of its file;
    # float32 gradients, a pass's, and two moments.
    frozen = 4 if alone else 6
    needed = frozen * parameters + 14 * trainable + (2 * parameters if frozen_copy else 0)
    needed = max(needed, 0 if alone else SAVED * parameters)
    free = machine.plannable_memory()
    if needed > free:
        raise BadInput(
            f"memory: expected {gigabytes(needed)} for weights, gradients and optimiser of "
            f"{parameters:,} parameters, found {gigabytes(free)} free; a lora adapter or a smaller "
            "model takes less"
        )


def gigabytes(size: float) -> str:
    """Format a size in GB."""
    return f"{size / 1e9:.1f} GB"


def _linears(base: Any) -> list[torch.nn.Linear]:
    return [module for module in base.modules() if isinstance(module, torch.nn.Linear)]


def _stored(base: Any) -> int:
    """Measure the bytes that autograd stores per position in a pass through the model's body."""
    training = base.training
    base.eval()
    try:
        vocabulary = base.config.get_text_config().vocab_size
        token_1T = torch.arange(PROBE, device=base.device)[None] % vocabulary
        run = partial(base.base_model, input_ids=token_1T, use_cache=False)
        return stored_by(run, base.parameters()) // PROBE
    finally:
        base.train(training)
