"""Estimate the memory of a training from the model's shape and the settings."""

from __future__ import annotations

from alignlab.models.facts import ModelFacts
from alignlab.models.memory import training_bytes
from alignlab.plan import Memory
from alignlab.training.config import TrainConfig


def training_memory(
    facts: ModelFacts, settings: TrainConfig, *, half: bool, group: int, what: str
) -> Memory:
    """Estimate the memory of weights, gradients, Adam's moments and activations of one pass.

    Args:
        facts: shape of the model.
        settings: settings of the training.
        half: True where it computes in bfloat16.
        group: tokens of a group; 0 fills the token budget.
        what: name of the training.
    """
    trainable = facts.parameters
    if settings.lora is not None:
        # Two thin matrices for each of about seven square ones per layer.
        trainable = facts.layers * 7 * 2 * settings.lora.r * facts.hidden
    positions = min(settings.token_budget, settings.batch_size * group or settings.token_budget)
    size = training_bytes(
        facts,
        weights=_weight_bytes(settings, half=half),
        trainable=trainable,
        positions=positions,
        width=2 if half else 4,
        layers=1 if settings.gradient_checkpointing else facts.layers,
    )
    of = f"weights, gradients, optimiser, {positions:,} tokens a pass"
    return Memory(f"training ({what})", size / 1e9, of)


def _weight_bytes(settings: TrainConfig, *, half: bool) -> float:
    """Return bytes per parameter: quantised weights, or masters, working copy and mapped file."""
    if settings.quant == "none":
        return 8 if half else 6
    return 0.52 if settings.quant == "nf4" else 1  # 4 bits, and 1/8 byte per 64 for the scales
