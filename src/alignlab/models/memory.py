"""Memory of a process that trains, samples or judges, from a model's shape alone.

Bytes are counted from the tensors that the packed path holds at its peak; each function names them.
`ModelFacts` comes from small files, so that nothing is loaded.
"""

from __future__ import annotations

from alignlab.models import head
from alignlab.models.facts import ModelFacts

PROCESS = 450_000_000
"""Bytes of a process that has imported torch and transformers and holds no model."""


def stored_per_position(facts: ModelFacts, width: int) -> int:
    """Return the bytes that autograd stores for one position of one layer.

    The gated feed-forward layer's four tensors, inputs of the linear layers and outputs of the
    norms, queries, keys and values, all in the compute type; and the norms' inputs in float32.

    Args:
        facts: shape of the model.
        width: bytes of a number in the compute type.
    """
    streams = (facts.norms + 2) * facts.hidden
    heads = 2 * (facts.query_width + facts.kv_width)
    return width * (4 * facts.intermediate + streams + heads) + 4 * facts.norms * facts.hidden


def head_bytes(facts: ModelFacts, rows: int, width: int) -> int:
    """Return the bytes of the vocabulary head: residuals, a panel of logits, weight's gradient."""
    panel = min(rows, max(head.LEAST_ROWS, head.PANEL_ELEMENTS // facts.vocabulary))
    held = panel * facts.vocabulary * width
    chunk = min(rows, max(head.LEAST_ROWS, head.CHUNK_ELEMENTS // facts.vocabulary))
    kept = min(rows * facts.vocabulary * width, head.KEEP_BYTES)
    return held + 8 * chunk * facts.vocabulary + kept + width * facts.vocabulary * facts.hidden


def training_bytes(
    facts: ModelFacts, *, weights: float, trainable: int, positions: int, width: int, layers: int
) -> int:
    """Return the peak memory of a training process in bytes.

    Args:
        facts: shape of the model.
        weights: bytes per parameter of masters, working copy and the mapped file.
        trainable: parameters in training: float32 gradient, a pass's gradient, two moments.
        positions: tokens of one forward and backward pass.
        width: bytes of a number in the compute type.
        layers: layers whose tensors are stored; 1 where they are recomputed.
    """
    stored = positions * stored_per_position(facts, width) * layers
    states = facts.parameters * weights + trainable * (12 + width)
    return int(PROCESS + states + stored + head_bytes(facts, positions, width))


def sampling_bytes(facts: ModelFacts, *, prompts: int, rows: int, tokens: int, width: int) -> int:
    """Return the peak memory of a process that samples: weights, keys and values, logits.

    Args:
        facts: shape of the model.
        prompts: positions of the distinct prompts of a batch, which their samples share.
        rows: samples of a batch.
        tokens: most tokens of a sample.
        width: bytes of a number in the compute type.
    """
    cached = 2 * facts.layers * facts.kv_width * width
    positions = prompts + rows * tokens
    logits = rows * facts.vocabulary * (width + 8)
    return int(PROCESS + facts.parameters * width + positions * cached + logits)


def reading_bytes(facts: ModelFacts, *, positions: int, width: int) -> int:
    """Return the peak memory of a forward pass over judge prompts, without gradient.

    Weights; of the widest layer the gate's three tensors and four of the residual stream.

    Args:
        facts: shape of the model.
        positions: padded positions of a batch.
        width: bytes of a number in the compute type.
    """
    held = width * (3 * facts.intermediate + 4 * facts.hidden + facts.query_width)
    cached = 2 * facts.layers * facts.kv_width * width
    return int(PROCESS + facts.parameters * width + positions * (held + cached))
