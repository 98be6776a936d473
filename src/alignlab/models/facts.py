"""Read a model's size and shape from its small files, without its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from alignlab.errors import BadInput
from alignlab.models import load as loading


@dataclass(frozen=True)
class ModelFacts:
    """A decoder's size and shape."""

    path: str
    kind: str
    """Architecture name in transformers."""
    parameters: int
    layers: int
    hidden: int
    """Width of the residual stream."""
    kv_width: int
    """Width of the keys of one position in one layer, and of the values."""
    vocabulary: int
    context: int
    """Longest sequence, in tokens."""
    intermediate: int = 0
    """Width of the feed-forward layer."""
    query_width: int = 0
    """Width of the queries of one position in one layer."""
    norms: int = 2
    """Norms of the residual stream in one layer."""


def model_facts(spec: str | Path, *, chat_template: str | None = None) -> ModelFacts:
    """Read a model's configuration, tokenizer and chat template; for an adapter, its base's.

    Raises:
        BadInput: no such model, no decoder, no safetensors weights, or no chat template.
    """
    folder = loading._resolve(str(spec), files=loading._HUB_SMALL_FILES)
    if loading.is_adapter(folder):
        base = loading.base_of_adapter(folder)
        return replace(model_facts(base, chat_template=chat_template), path=str(folder))
    loading._tokenizer(folder, chat_template, trust_remote_code=False)
    local = Path(spec).is_dir()
    if local and not any(folder.glob("*.safetensors")):
        raise BadInput(f"{folder}: expected weights in safetensors files, found none")
    with loading.expecting("a decoder in Hugging Face format", folder), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder)
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        model.tie_weights()
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", 1)
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return ModelFacts(
        path=str(folder),
        kind=config.model_type,
        parameters=sum(p.numel() for p in model.parameters()),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        kv_width=width * (getattr(text, "num_key_value_heads", None) or heads),
        vocabulary=text.vocab_size,
        context=int(getattr(text, "max_position_embeddings", None) or 2**31),
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        query_width=width * heads,
        norms=max(1, _norms(model, text.hidden_size) // text.num_hidden_layers),
    )


def _norms(model: torch.nn.Module, hidden: int) -> int:
    """Count the norms over the residual stream."""
    norms = (m for m in model.modules() if "Norm" in type(m).__name__)
    weights = (getattr(norm, "weight", None) for norm in norms)
    return sum(weight is not None and weight.shape == (hidden,) for weight in weights)
