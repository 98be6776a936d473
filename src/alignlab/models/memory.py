"""Memory of a process that trains, samples or judges, from a model's shape alone.

Bytes are counted from the tensors that the packed path holds at its peak; each function names them.
`ModelFacts` comes from small files, so that nothing is loaded.
"""

from __future__ import annotations

from typing import NamedTuple

from alignlab.models import attention, head
from alignlab.models.facts import ModelFacts
from alignlab.models.stored import stored_bytes

PROCESS = 450_000_000
"""Bytes of a process that has imported torch and transformers and holds no model."""

KEPT_SHARE = 0.2
"""Memory that allocators keep, as a share of the rest: SmolLM2-135M took 2.9 to 3.0 GB in each of
two CPU processes with FSDP2 in bfloat16, of which 2.4 are counted."""
FRAGMENTED = 1.2
"""Memory that glibc holds for passes of different sizes on a CPU, as a factor on a pass: LoRA on
Qwen2.5-Coder-0.5B held 12.9 GB after a step of 5,525 positions, 14.2 GB after one of 5,589."""
SAVED = 8
"""Bytes of a parameter while a model is saved: float32, a copy in bfloat16, and safetensors' own
copy of what it writes; for a float32 file that copy alone."""
NF4_BYTES = 0.52
"""Bytes of a weight in NF4: 4 bits, and a byte for each 64 of them for the scales."""


def stored_per_position(facts: ModelFacts, width: int) -> int:
    """Return the bytes that autograd stores for one position of one layer.

    Measured on the model without weights (`stored_bytes`). Where there is none: the gated
    feed-forward layer's four tensors, inputs of the linear layers and outputs of the norms,
    queries, keys and values, all in the compute type; and the norms' inputs in float32.

    Args:
        facts: shape of the model.
        width: bytes of a number in the compute type.
    """
    found = stored_bytes(facts.path, width)
    if found is not None:
        return found // facts.layers
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


def attention_bytes(facts: ModelFacts, positions: int, width: int, span: int) -> int:
    """Return the bytes of the attention probabilities that a layer stores, at most its limit.

    Args:
        facts: shape of the model.
        positions: tokens of one forward and backward pass.
        width: bytes of a number in the compute type.
        span: tokens of a group, which attend to each other; 0 if unknown.
    """
    span = span or positions
    return min(attention.KEEP_BYTES, positions * span * facts.heads * width)


def training_bytes(
    facts: ModelFacts,
    *,
    weights: float,
    trainable: int,
    positions: int,
    width: int,
    layers: int,
    span: int = 0,
) -> int:
    """Return the peak memory of a training process on a CPU in bytes.

    Args:
        facts: shape of the model.
        weights: bytes per parameter of masters, working copy and the mapped file.
        trainable: parameters in training: float32 gradient, a pass's gradient, two moments.
        positions: tokens of one forward and backward pass.
        width: bytes of a number in the compute type.
        layers: layers whose tensors are stored; 1 where they are recomputed.
        span: tokens of a group, which attend to each other; 0 if unknown.
    """
    stored = positions * stored_per_position(facts, width)
    stored += attention_bytes(facts, positions, width, span)
    states = facts.parameters * weights + trainable * (12 + width)
    one_pass = stored * layers + head_bytes(facts, positions, width)
    return int(PROCESS + states + FRAGMENTED * one_pass)


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


class TrainingShape(NamedTuple):
    """Sizes of a training that decide its memory."""

    trainable: int
    """Parameters in training."""
    positions: int
    """Tokens of one forward and backward pass."""
    width: int
    """Bytes of a number in the compute type."""
    checkpointing: bool = False
    """True where layers are recomputed in the backward pass."""
    processes: int = 1
    """Processes that share weights, gradients and optimiser states (FSDP2)."""
    frozen: float | None = None
    """Bytes of a frozen parameter that is quantised, or held once in the type of its bfloat16 file;
    None for others."""


def process_parts(facts: ModelFacts, shape: TrainingShape) -> dict[str, int]:
    """Return the memory in bytes of one process of a training on GPUs, by its parts.

    Weights: float32 masters of what is trained and a copy of all in the compute type, which are one
    in float32; in a single process also the float32 original of frozen weights, unless their files
    are in the compute type. Optimiser: float32
    gradients and two moments, and a pass's gradient. Gathered: the embeddings with the head, two
    layers, and the gradients of the larger of these, before and after their cast to float32. Pass:
    activations and the head. The allocator keeps a share of what was freed.
    """
    P, T, width, N = facts.parameters, shape.trainable, shape.width, shape.processes
    if shape.frozen is not None:
        weights = P * shape.frozen + T * (4 + width)
    elif N > 1:
        weights = P * width + (T * 4 if width < 4 else 0)
    else:
        weights = P * 4 + (P * width if width < 4 else 0)
    layer = layer_parameters(facts)
    rest = max(0, P - layer * facts.layers)
    gathered = width * (rest + 2 * layer)
    if T == P:
        gathered += (width + 4) * max(rest, layer)
    stored = stored_per_position(facts, width)
    stored = (
        stored + facts.layers * facts.hidden * width
        if shape.checkpointing
        else (stored * facts.layers)
    )
    parts = {
        "weights": int(weights / N),
        "gradients and optimiser": int(T * (12 + width) / N),
        "gathered weights and gradients": gathered if N > 1 else 0,
        "pass": shape.positions * stored + head_bytes(facts, shape.positions, width),
        "libraries": PROCESS,
    }
    return parts | {"kept by the allocator": int(KEPT_SHARE * sum(parts.values()))}


def layer_parameters(facts: ModelFacts) -> int:
    """Return the parameters of a layer: queries, keys, values, output, gated network, norms."""
    attention = 2 * facts.hidden * (facts.query_width + facts.kv_width)
    return attention + facts.hidden * (3 * facts.intermediate + facts.norms)


def linear_parameters(facts: ModelFacts) -> int:
    """Return the parameters of the layers' matrices and norms, and of the vocabulary head."""
    return facts.layers * layer_parameters(facts) + facts.vocabulary * facts.hidden


def adapter_parameters(facts: ModelFacts, rank: int) -> int:
    """Return the parameters of a low-rank adapter of all of a layer's linear layers."""
    # A matrix of a inputs and b outputs gets rank * (a + b).
    attention = 2 * (2 * facts.hidden + facts.query_width + facts.kv_width)
    network = 3 * (facts.hidden + facts.intermediate)
    return facts.layers * rank * (attention + network)
