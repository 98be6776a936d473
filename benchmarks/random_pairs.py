"""Random preference groups with the lengths of chat and of summarisation, and their FLOPs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from random_llama import prompt_lengths, random_tokens
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alignlab.models.packed import TokenGroup

LENGTHS = {"uf": (110, 0.7, 234, 0.6), "sum": (400, 0.15, 41, 0.35), "tiny": (20, 0.5, 12, 0.5)}
"""Name -> median and log-deviation of prompts, then of responses: chat as in UltraFeedback,
summaries of posts, and a check."""
LONGEST = 1024
"""Tokens at which a prompt or response ends."""
END = 2
"""Last token of every response."""


def random_groups(
    data: str, count: int, k: int, vocabulary: int, *, seed: int = 0
) -> list[TokenGroup]:
    """Groups of a prompt and k responses of random tokens and log-normal lengths."""
    prompt, prompt_sigma, response, sigma = LENGTHS[data]
    prompts = prompt_lengths(count, median=prompt, sigma=prompt_sigma, seed=seed)
    rng = np.random.Generator(np.random.Philox(seed + 1))
    drawn = np.exp(rng.normal(np.log(response), sigma, count * k)).clip(4, LONGEST).astype(int)
    asked = random_tokens(prompts, vocabulary, seed=seed + 2)
    said = random_tokens((drawn - 1).tolist(), vocabulary, seed=seed + 3)
    return [
        TokenGroup(f"g{i}", tuple(p), tuple((*r, END) for r in said[i * k : (i + 1) * k]))
        for i, p in enumerate(asked)
    ]


def write_tokenizer(vocabulary: int, folder: Path) -> None:
    """A tokenizer whose text of token 7 is "t7", tokens apart by blanks."""
    names = {0: "<pad>", 1: "<bos>", END: "<eos>"}
    vocab = {names.get(i, f"t{i}"): i for i in range(vocabulary)}
    raw = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    tokenizer.save_pretrained(folder)


def as_text(tokens: Sequence[int]) -> str:
    """What `write_tokenizer`'s tokenizer reads back as these tokens."""
    return " ".join("<eos>" if t == END else f"t{t}" for t in tokens)


def step_bytes(parameters: int, passes: int, element: int) -> float:
    """Bytes that a training step moves at least: weights, gradients and optimiser states.

    In each pass the weights are read in the forward and the backward pass, and their gradients
    written; the optimiser reads and writes float32 masters and two moments, and reads gradients.
    """
    return parameters * (3 * element * passes + 4 * 7.0)


def step_flops(config: Any, groups: Sequence[TokenGroup]) -> float:
    """Floating point operations that a training step on groups needs at least.

    Every prompt once, the head on response tokens alone, causal attention without padding, nothing
    computed twice; the backward pass is twice the forward, a product of an (a, b) and a (b, c)
    matrix 2abc.
    """
    d, layers = config.hidden_size, config.num_hidden_layers
    heads = config.num_attention_heads
    wide = getattr(config, "head_dim", None) or d // heads
    keys = wide * (getattr(config, "num_key_value_heads", None) or heads)
    body = layers * (2 * d * (heads * wide + keys) + 3 * d * config.intermediate_size)
    total = 0.0
    for group in groups:
        prompt = len(group.prompt_T)
        seen = prompt * (prompt + 1) / 2
        seen += sum(len(r) * prompt + len(r) * (len(r) + 1) / 2 for r in group.responses)
        head = config.vocab_size * d * group.response_tokens
        total += 3 * (2 * (body * group.tokens + head) + layers * 4 * heads * wide * seen)
    return total
