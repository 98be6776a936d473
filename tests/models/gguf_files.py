"""Write tiny GGUF files as llama.cpp converts them from Hugging Face models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as t
from tokenizers.pre_tokenizers import ByteLevel

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, *sorted(ByteLevel.alphabet()), "he", "ll"]
MERGES = ["h e", "l l"]
WIDTH, HEADS, KEYS, LAYERS = 32, 4, 2, 2
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tiny_llama(seed: int = 0) -> Any:
    """A random Llama with untied head, in float32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = t.LlamaConfig(
            vocab_size=len(TOKENS), hidden_size=WIDTH, intermediate_size=64,
            num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KEYS,
            max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
            bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
        )  # fmt: skip
        return t.LlamaForCausalLM(config).float().eval()


def write_gguf(
    path: Path,
    model: Any,
    *,
    quantise: bool = False,
    template: str | None = None,
    without: str = "",
    licence: str = "apache-2.0",
) -> Path:
    """Write a Llama as a GGUF file.

    Args:
        quantise: store matrices as Q8_0, else everything as float32.
        template: chat template; None writes none.
        without: name of a tensor to leave out.
        licence: of the metadata.
    """
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_license(licence)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)
    for name, tensor in _tensors(model):
        if name == without:
            continue
        kind = gguf.GGMLQuantizationType.Q8_0
        if quantise and tensor.ndim > 1:
            writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def dequantised(weight: torch.Tensor) -> torch.Tensor:
    """Return a matrix as Q8_0 stores it: blocks of 32, each of whole numbers times its scale."""
    blocks = weight.reshape(-1, 32).double()
    scale = (blocks.abs().amax(1, keepdim=True) / 127).to(torch.float16).double()
    return (torch.round(blocks / (blocks.abs().amax(1, keepdim=True) / 127)) * scale).reshape(
        weight.shape
    )


def _tensors(model: Any) -> list[tuple[str, np.ndarray]]:
    found = []
    for name, value in model.state_dict().items():
        plain = value.numpy()
        if name == "model.embed_tokens.weight":
            new = "token_embd.weight"
        elif name == "model.norm.weight":
            new = "output_norm.weight"
        elif name == "lm_head.weight":
            new = "output.weight"
        else:
            layer, _, rest = name.removeprefix("model.layers.").partition(".")
            new = f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"
            heads = {"attn_q": HEADS, "attn_k": KEYS}.get(new.split(".")[2])
            if heads:  # rotated pairs lie next to each other in llama.cpp
                halves = plain.reshape(heads, 2, plain.shape[0] // heads // 2, plain.shape[1])
                plain = halves.swapaxes(1, 2).reshape(plain.shape)
        found.append((new, np.ascontiguousarray(plain)))
    return found
