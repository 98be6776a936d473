"""Random Llama models of two sizes and random prompts: what the speed benchmarks work on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {
    "tiny": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "layers": 2},
    "S": {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 704, "layers": 6},
    "M": {"vocab_size": 32000, "hidden_size": 512, "intermediate_size": 1408, "layers": 8},
}
"""Size -> shape; S has 5.9 million parameters (head tied), M 58.5 million (head apart)."""
LARGE = {
    "Llama-3.2-1B": {
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "layers": 16,
        "key_heads": 8,
    },
    "Qwen3-0.6B": {
        "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "layers": 28,
        "heads": 16, "key_heads": 8, "head_dim": 128,
    },
    "Qwen2.5-0.5B": {
        "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "layers": 24,
        "key_heads": 2,
    },
}  # fmt: skip
"""Name -> shape of a published model, here as a Llama with tied head; for GPUs."""
HEAD_SIZE = 64
"""Numbers per attention head."""


def write_model(
    size: str,
    folder: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> int:
    """Write a random model; gives its number of parameters."""
    shape = dict({**SHAPES, **LARGE}[size])
    heads = shape.pop("heads", shape["hidden_size"] // HEAD_SIZE)
    config = LlamaConfig(
        num_hidden_layers=shape.pop("layers"),
        num_attention_heads=heads,
        num_key_value_heads=shape.pop("key_heads", heads),
        max_position_embeddings=2048,
        tie_word_embeddings=size != "M",
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **shape,
    )
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.to(dtype).save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def prompt_lengths(
    count: int, *, median: int = 110, sigma: float = 0.7, seed: int = 0
) -> list[int]:
    """Log-normal lengths, as UltraFeedback's prompts have; 8 to 1024 tokens."""
    rng = np.random.Generator(np.random.Philox(seed))
    return np.exp(rng.normal(np.log(median), sigma, count)).clip(8, 1024).astype(int).tolist()


def random_tokens(lengths: list[int], vocabulary: int, *, seed: int) -> list[list[int]]:
    """Prompts of the given lengths, without the special tokens."""
    rng = np.random.Generator(np.random.Philox(seed))
    return [rng.integers(3, vocabulary, length).tolist() for length in lengths]
