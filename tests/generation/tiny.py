"""Tiny random models and a byte-level tokenizer, made in memory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PhiConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from alignlab.models.load import LanguageModel
from alignlab.types import CompletionRequest, Message, Sampling

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = [
    "The cat sat on the mat and said hello.",
    "Score: 0 Score: 1 Score: 2 Score: 3 Score: 4 Score: 5",
    "What is the capital of the small country? It is the town by the river.",
]
COMMON = {
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
GATED = {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**GATED),
    "qwen2": Qwen2Config(**GATED),
    "qwen3": Qwen3Config(**GATED, head_dim=8),
    "mistral-window": MistralConfig(**GATED, sliding_window=12),
    "gemma2": Gemma2Config(**GATED, head_dim=8, sliding_window=12),
    "gemma3": Gemma3TextConfig(**GATED, head_dim=8, sliding_window=12),
    "olmo2": Olmo2Config(**GATED),
    "phi3": Phi3Config(**GATED),
    "phi": PhiConfig(**COMMON, intermediate_size=48),
    "gpt-neox": GPTNeoXConfig(**COMMON, intermediate_size=48),
    "gpt2": GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=256),
    "gptj": GPTJConfig(
        vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=256, rotary_dim=4
    ),
    "falcon": FalconConfig(**COMMON, new_decoder_architecture=False, alibi=False),
    "bloom": BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4),
}


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most 320 tokens with a chat template."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(TEXT * 4, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<|im_end|>", padding_side="left"
    )
    made.chat_template = TEMPLATE
    return made


def tiny(kind: str = "llama", *, spread: float = 0.4) -> LanguageModel:
    """A random model; the larger the spread of its weights, the sharper its distributions."""
    torch.manual_seed(3)
    config = copy.deepcopy(CONFIGS[kind])  # tests change it
    tok = tokenizer()
    config.pad_token_id = config.bos_token_id = None
    config.eos_token_id = tok.eos_token_id
    config.tie_word_embeddings = False
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=spread)
    return LanguageModel(model, tok, f"tiny-{kind}", "", "0", torch.device("cpu"))


def ask(
    key: str, text: str, *, seed: int = 0, prefix: str = "", **sampling: Any
) -> CompletionRequest:
    """A request of one user turn."""
    return CompletionRequest(key, (Message("user", text),), Sampling(**sampling), seed, prefix)


def saved_llama(folder: Path, seed: int) -> Path:
    """Save a model whose heads have a size that vLLM's kernels take."""
    tok = tokenizer()
    config = LlamaConfig(
        vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256, eos_token_id=tok.eos_token_id,
        bos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.data.normal_(std=0.3)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
