"""Read a model's size and shape from its small files, without its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from alignlab.models.folders import require_weights
from alignlab.models.load import base_of_adapter, is_adapter, stored_type, tokenizer_of
from alignlab.models.locate import HUB_SMALL_FILES, locate
from alignlab.models.weight_files import reading


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
    heads: int = 1
    """Heads of the queries of one layer."""
    norms: int = 2
    """Norms of the residual stream in one layer."""
    stored: str = ""
    """Type of the weights in the files, or in a configuration without files; empty if unknown."""


def model_facts(
    spec: str | Path, *, chat_template: str | None = None, shape_only: bool = False
) -> ModelFacts:
    """Read a model's configuration, tokenizer and chat template; an adapter has its base's shape.

    Args:
        spec: folder or hub id.
        chat_template: template in use, where it is not the model's own.
        shape_only: read the configuration alone; a folder needs no tokenizer and no weights.

    Raises:
        BadInput: no such model, no decoder, no safetensors weights, or no chat template.
    """
    folder = locate(spec, files=HUB_SMALL_FILES)
    if not shape_only:
        tokenizer_of(folder, chat_template)
    if not shape_only and Path(spec).is_dir():
        require_weights(folder)
    if is_adapter(folder):
        base = base_of_adapter(folder)
        if not shape_only and Path(base).is_dir():
            require_weights(locate(base))
        facts = model_facts(base, shape_only=True)
        return replace(facts, path=str(folder), stored="float32")  # merged
    config, parameters, norms = _decoder(folder)
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", 1)
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return ModelFacts(
        path=str(folder),
        kind=config.model_type,
        parameters=parameters,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        kv_width=width * (getattr(text, "num_key_value_heads", None) or heads),
        vocabulary=text.vocab_size,
        context=int(getattr(text, "max_position_embeddings", None) or 2**31),
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        query_width=width * heads,
        heads=heads,
        norms=max(1, norms // text.num_hidden_layers),
        stored=str(stored_type(folder) or config.dtype or "").removeprefix("torch."),
    )


def _norms(model: torch.nn.Module, hidden: int) -> int:
    """Count the norms over the residual stream."""
    norms = (m for m in model.modules() if "Norm" in type(m).__name__)
    weights = (getattr(norm, "weight", None) for norm in norms)
    return sum(weight is not None and weight.shape == (hidden,) for weight in weights)


def parameter_count(spec: str | Path) -> int:
    """Count a decoder's parameters, from its configuration alone; for an adapter, its base's.

    Raises:
        BadInput: no such model, or no decoder.
    """
    folder = locate(spec, files=HUB_SMALL_FILES)
    return parameter_count(base_of_adapter(folder)) if is_adapter(folder) else _decoder(folder)[1]


def _decoder(folder: Path) -> tuple[Any, int, int]:
    """Return a decoder's configuration, parameters and norms, without reading weights."""
    with reading("a decoder in Hugging Face format", folder), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder)
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        model.tie_weights()
    hidden = config.get_text_config(decoder=True).hidden_size
    return config, sum(p.numel() for p in model.parameters()), _norms(model, hidden)
