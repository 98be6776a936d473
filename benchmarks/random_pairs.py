"""Random preference groups with the lengths of chat and of summarisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
