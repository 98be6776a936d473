"""Tiny random models and tokenizers for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alignlab.models.attention import keep_soft_cap
from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_BASE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT = {
    "vocab_size": 97,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def config_of(name: str) -> Any:
    """A tiny configuration of an architecture; windows are shorter than the test's groups."""
    made = {
        "llama": lambda: t.LlamaConfig(**_BASE),
        "mistral": lambda: t.MistralConfig(**_BASE, sliding_window=8),
        "qwen2": lambda: t.Qwen2Config(**_BASE),
        "qwen3": lambda: t.Qwen3Config(**_BASE, head_dim=8),
        "gemma2": lambda: t.Gemma2Config(
            **_BASE, head_dim=8, sliding_window=6, query_pre_attn_scalar=8
        ),
        "gemma3": lambda: t.Gemma3TextConfig(**_BASE, head_dim=8, sliding_window=6),
        "phi": lambda: t.PhiConfig(**_BASE),
        "phi3": lambda: t.Phi3Config(**_BASE),
        "gpt_neox": lambda: t.GPTNeoXConfig(**_BASE),
        "olmo2": lambda: t.Olmo2Config(**_BASE),
        "gpt2": lambda: t.GPT2Config(**_GPT),
        "gptj": lambda: t.GPTJConfig(**_GPT, rotary_dim=4),
        "falcon": lambda: t.FalconConfig(
            vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            bos_token_id=1, eos_token_id=2,
        ),
        "falcon_alibi": lambda: t.FalconConfig(
            vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            alibi=True, bos_token_id=1, eos_token_id=2,
        ),
    }  # fmt: skip
    return made[name]()


def tiny_model(name: str = "llama", *, seed: int = 0, scale: float = 5.0) -> Any:
    """A random model whose attention matters: matrices are larger than the usual first ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = t.AutoModelForCausalLM.from_config(config_of(name), dtype=torch.float32)
    keep_soft_cap(model)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(scale)
    return model.eval()


def tiny_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Characters as tokens, with ChatML's special tokens; vocabulary of 97."""
    specials = ["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>"]
    letters = [chr(c) for c in range(32, 123)]
    vocab = {token: i for i, token in enumerate([*specials, "\n", *letters])}
    raw = Tokenizer(models.WordLevel(vocab, unk_token=" "))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    tokenizer.chat_template = template
    return tokenizer


def tiny_lm(name: str = "llama", *, seed: int = 0, scale: float = 5.0) -> LanguageModel:
    model = tiny_model(name, seed=seed, scale=scale)
    return LanguageModel(model, tiny_tokenizer(), name, "", "", torch.device("cpu"))


def random_groups(
    count: int, responses: tuple[int, ...] = (2,), *, seed: int = 0, longest: int = 14
) -> list[TokenGroup]:
    """Groups with random tokens; the numbers of responses take turns."""
    rng = np.random.Generator(np.random.Philox(seed))

    def draw(length: int) -> tuple[int, ...]:
        return tuple(int(x) for x in rng.integers(3, 97, length))

    groups = []
    for i in range(count):
        K = responses[i % len(responses)]
        lengths = rng.integers(1, longest + 1, K + 1)
        groups.append(
            TokenGroup(f"g{i}", draw(int(lengths[0])), tuple(draw(int(n)) for n in lengths[1:]))
        )
    return groups
