"""Define the settings of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alignlab.configs import (
    BelowOne,
    Bounded,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Seed,
)
from alignlab.errors import BadInput
from alignlab.models.adapters import LoraConfig
from alignlab.models.quant import Quant

SaveDtype = Literal["input", "float32", "bfloat16"]
"""Type of saved weights; "input" is the type in the initial model's files, or float32 for a new
reward model."""
SaveAs = SaveDtype | Literal["adapter"]
"""Type of saved weights, or "adapter", which saves a trained adapter alone."""


@dataclass(frozen=True)
class LengthSettings(Bounded):
    """Limits of the sequences that models are trained on."""

    max_prompt_tokens: PositiveInt = 1024
    """Longest prompt, in tokens."""
    max_response_tokens: PositiveInt = 1024
    """Longest response, in tokens, its end-of-turn token included."""
    too_long: Literal["drop", "cut"] = "drop"
    """Treatment of a longer record: drop it, or keep its prompt's beginning-of-text token and last
    tokens, and the first of its responses (then without end of turn); either is counted in the
    manifest."""


@dataclass(frozen=True)
class TrainConfig(Bounded):
    """Settings of the training loop; the objective has its own."""

    lr: Positive = 1e-5
    """Peak learning rate of AdamW."""
    min_lr_ratio: Fraction = 0.1
    """Final learning rate as a share of `lr`, in [0, 1]; no effect when constant."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the learning rate after the warm-up."""
    warmup_ratio: Fraction = 0.0
    """Share of all steps in which the learning rate increases linearly to `lr`."""
    epochs: PositiveInt = 1
    """Passes over the groups."""
    batch_size: PositiveInt = 16
    """Groups (prompts) of one optimiser step."""
    token_budget: PositiveInt = 8192
    """Most tokens of one forward and backward pass; a step is split into several passes."""
    max_grad_norm: NonNegative = 1.0
    """Largest gradient norm, to which gradients are scaled down; 0 does not clip."""
    weight_decay: NonNegative = 0.0
    """AdamW's decay of weight matrices, per unit of learning rate; vectors are not decayed."""
    adam_beta1: BelowOne = 0.9
    """Decay of the running mean of gradients."""
    adam_beta2: BelowOne = 0.95
    """Decay of the running mean of squared gradients."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the forward and backward pass; master weights and optimiser are float32. "auto" is
    bfloat16 from 10 million parameters on a GPU, or a CPU fast in it; else float32."""
    dropout: BelowOne = 0.0
    """Dropout of the model's own layers, in [0, 1); above 0 slower padded batches are used."""
    lora: LoraConfig | None = None
    """Train a low-rank adapter instead of all weights."""
    quant: Quant = "none"
    """Quantise the weights under the adapter to 4 bits ("nf4") or 8 ("int8"), with products in
    `dtype`; the result is of full size, with their rounding. Needs lora, and pip install
    'alignlab[quant]'."""
    neftune_alpha: NonNegative = 0.0
    """Scale of NEFTune noise on the embeddings (usually 5); 0 adds none."""
    gradient_checkpointing: bool = False
    """Recompute layers in the backward pass: less memory, about a third more time."""
    save_every: NonNegativeInt = 200
    """Steps between checkpoints; 0 writes none."""
    keep_checkpoints: PositiveInt = 2
    """Number of newest checkpoints to keep."""
    validate_every: NonNegativeInt = 0
    """Steps between validations; 0 validates at the end only."""
    log_every: PositiveInt = 10
    """Steps per line of metrics.jsonl."""
    seed: Seed = 0
    """Seed of data order, dropout, noise and the adapter's initial weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quant != "none" and self.lora is None:
            raise BadInput(
                "train: quant: expected lora with it (quantised weights are not trained, an "
                "adapter on them is), found none"
            )


def keeps_bfloat16(config: TrainConfig, *, stored: str, dtype: str, alone: bool = False) -> bool:
    """Return True where an adapter is trained over weights that are held in bfloat16 alone.

    They are those of bfloat16 files, or nothing is merged into them in training.

    Args:
        config: settings of the training.
        stored: type of the weights in the files.
        dtype: type that the training computes in.
        alone: True where the adapter is saved alone.
    """
    lora = config.lora
    plain = lora is not None and not lora.dora and config.quant == "none"
    return plain and dtype == "bfloat16" and (alone or stored == "bfloat16")


def saves_adapter(config: TrainConfig, *, sharded: bool) -> bool:
    """Return True where a training in a study saves its adapter alone, not a merged model.

    An adapter on quantised weights belongs to their rounding and is merged into it; processes that
    share the weights read those of a whole model by parts.
    """
    return config.lora is not None and config.quant == "none" and not sharded
