"""Estimate the memory of a training from the model's shape and the settings."""

from __future__ import annotations

from alignlab.errors import BadInput
from alignlab.models.facts import ModelFacts
from alignlab.models.memory import (
    NF4_BYTES,
    PROCESS,
    SAVED,
    TrainingShape,
    adapter_parameters,
    process_parts,
    training_bytes,
)
from alignlab.plan import Memory
from alignlab.training.config import TrainConfig, keeps_bfloat16
from alignlab.training.rollout_config import RolloutConfig


def training_memory(
    facts: ModelFacts,
    settings: TrainConfig,
    *,
    half: bool,
    step: int,
    group: int,
    what: str,
    alone: bool = False,
    rewards: bool = False,
) -> Memory:
    """Estimate the memory of weights, gradients, Adam's moments and activations of one pass.

    Args:
        facts: shape of the model.
        settings: settings of the training.
        half: True where it computes in bfloat16.
        step: tokens of the largest step of the optimiser; 0 fills the token budget.
        group: tokens of a typical prompt with its responses; 0 if unknown.
        what: name of the training.
        alone: True where an adapter is saved alone, not merged.
        rewards: True where a reward model is trained, which starts from float32 weights.
    """
    trainable = facts.parameters
    if settings.lora is not None:
        trainable = adapter_parameters(facts, settings.lora.r)
    positions = min(settings.token_budget, step or settings.token_budget)
    size = training_bytes(
        facts,
        weights=_weight_bytes(facts, settings, half=half, alone=alone),
        trainable=trainable,
        positions=positions,
        width=2 if half else 4,
        layers=1 if settings.gradient_checkpointing else facts.layers,
        span=group,
    )
    of = f"weights, gradients, optimiser, {positions:,} tokens a pass"
    if isinstance(settings, RolloutConfig) and settings.lora is None:
        size += facts.parameters * (2 if half else 4)
        of += ", reference"
    if alone:
        # The model that it starts from, next to the mapped pages of its files.
        mapped = 2 if facts.stored in ("bfloat16", "float16") else 4
        narrow = keeps_bfloat16(settings, stored="", dtype="bfloat16", alone=half)
        narrow = narrow and not (settings.lora and settings.lora.targets) and not rewards
        loading = PROCESS + ((2 if narrow else 4) + mapped) * facts.parameters
        if loading > size:
            size, of = loading, "loading the model that it starts from"
    elif settings.lora is not None and settings.quant == "none":
        # Pages of a float32 file stay in memory next to the merged weights and their copy.
        mapped = 0 if held_once(facts, settings, half=half) else 4
        saving = PROCESS + (SAVED + mapped) * facts.parameters
        if saving > size:
            size, of = saving, "saving the merged model"
    return Memory(f"training ({what})", size / 1e9, of)


def _weight_bytes(facts: ModelFacts, settings: TrainConfig, *, half: bool, alone: bool) -> float:
    """Return bytes per parameter: quantised weights, or masters, working copy and mapped file.

    Masters of another type than the file's are copies: its pages leave memory once it is read.
    """
    if alone and half:
        return 4  # merged with the adapter that it starts from, next to pages of the file
    if held_once(facts, settings, half=half):
        return 2
    if settings.quant == "none":
        copies = facts.stored in ("bfloat16", "float16")
        return (6 if half else 4) + (0 if copies else 2)
    return NF4_BYTES if settings.quant == "nf4" else 1


def held_once(facts: ModelFacts, settings: TrainConfig, *, half: bool) -> bool:
    """Return True where an adapter is trained on the bfloat16 weights of the files as they are."""
    dtype = "bfloat16" if half else "float32"
    return keeps_bfloat16(settings, stored=facts.stored, dtype=dtype)


def process_memory(
    facts: ModelFacts, settings: TrainConfig, *, half: bool, processes: int
) -> tuple[Memory, ...]:
    """Estimate the memory of one process on GPUs, and of process 0 while it saves the result.

    Args:
        facts: shape of the model.
        settings: settings of the training, whose passes fill the token budget.
        half: True where it computes in bfloat16.
        processes: processes that share the weights (parallel=fsdp); 1 for a single GPU.

    Raises:
        BadInput: quantised weights for several processes.
    """
    if processes > 1 and settings.quant != "none":
        raise BadInput("train: quant: quantised weights are not shared out; expected processes=1")
    trainable = facts.parameters
    if settings.lora is not None:
        trainable = adapter_parameters(facts, settings.lora.r)
    once = processes == 1 and held_once(facts, settings, half=half)
    shape = TrainingShape(
        trainable,
        settings.token_budget,
        2 if half else 4,
        settings.gradient_checkpointing,
        processes,
        2.0 if once else {"nf4": NF4_BYTES, "int8": 1.0}.get(settings.quant),
    )
    parts = process_parts(facts, shape)
    of = ", ".join(f"{what} {size / 1e9:.3g}" for what, size in parts.items() if size)
    what = "training, one GPU" if processes == 1 else f"training, each of {processes} processes"
    dtype = "bfloat16" if half else "float32"
    note = f"{dtype}, {shape.positions:,} tokens a pass: {of}"
    found = [Memory(what, sum(parts.values()) / 1e9, note)]
    if processes > 1 or once:
        whole = facts.parameters * SAVED + PROCESS
        of = "the merged model" if once else "the gathered model"
        found.append(Memory("saving, process 0", whole / 1e9, f"on the CPU, {of}"))
    return tuple(found)
