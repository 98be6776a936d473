"""Quantise weights to four or eight bits with bitsandbytes, to train an adapter on them (QLoRA).

NF4 with double quantisation: arXiv 2305.14314, section 3; int8: arXiv 2208.07339. Linear layers
are quantised, the vocabulary head and the embeddings are not. An adapter is trained on the
quantised weights and therefore merged into these, dequantised: the merged model is of full size
and computes as the trained one, with the rounding of the quantised weights.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from alignlab.errors import BadInput
from alignlab.models.load import DTYPES, LanguageModel, device_of, load, merged_folder
from alignlab.models.locate import locate, short_name

Quant = Literal["none", "nf4", "int8"]
"""Kind of quantisation; "none" leaves the weights as they are."""


def load_quantised(
    spec: str | Path,
    quant: Quant,
    *,
    compute: str,
    device: str | torch.device | None = None,
    chat_template: str | Path | None = None,
) -> LanguageModel:
    """Load a decoder and quantise its linear layers.

    Args:
        spec: local folder in Hugging Face format with unquantised weights, or hub id.
        quant: "nf4" or "int8".
        compute: type of the products and of all other weights: "bfloat16" or "float32".
        device: device of the weights; None and "auto" are the GPU where there is one, else the CPU.
        chat_template: Jinja template, or a file with one, instead of the tokenizer's own.

    Raises:
        BadInput: bitsandbytes is not installed, or `load` refuses the model.
    """
    require_bitsandbytes(quant)
    # bitsandbytes logs for every layer and pass that int8 products round inputs to half precision.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    chosen = device_of(device)
    reader = _Reader(_settings(quant, DTYPES[compute]), chosen)
    with merged_folder(spec) as folder:
        lm = load(
            folder, dtype=compute, device=chosen, chat_template=chat_template, model_class=reader
        )
    for module in lm.model.modules():
        # On some CPUs bitsandbytes rewrites the weights with coarser scales in eval mode; the
        # reference would then differ from the trained model.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    digest = hashlib.sha256(f"{lm.fingerprint}+{quant}".encode()).hexdigest()[:16]
    located = locate(spec)
    return replace(lm, name=short_name(spec, located), path=str(located), fingerprint=digest)


def require_bitsandbytes(quant: str) -> None:
    """Check that bitsandbytes is installed.

    Raises:
        BadInput: it is not installed.
    """
    if util.find_spec("bitsandbytes") is None:
        raise BadInput(
            f"setting quant: {quant} needs bitsandbytes; install it with pip install "
            "'alignlab[quant]', or choose quant=none"
        )


def is_quantised(model: Any) -> bool:
    """Return True for a model whose linear layers are quantised."""
    return bool(getattr(model, "is_quantized", False))


def merged_into_dequantised(model: Any) -> Any:
    """Dequantise the weights under an adapter and merge the adapter; float32.

    The adapted model is consumed.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    settings = model.peft_config[model.active_adapter]
    learned = get_peft_model_state_dict(model)
    # Dequantised in the compute type, a weight equals the operand of the trained products; float32
    # then preserves the adapter's small updates.
    dequantised = model.unload().dequantize().float()
    adapted = get_peft_model(dequantised, settings)
    set_peft_model_state_dict(adapted, learned)
    return adapted.merge_and_unload()


@dataclass(frozen=True)
class _Reader:
    """Stand-in for a model class of transformers that quantises on loading."""

    settings: BitsAndBytesConfig
    device: torch.device

    def from_pretrained(self, folder: Path, **options: Any) -> Any:
        return AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=self.settings, device_map={"": self.device}, **options
        )


def _settings(quant: Quant, compute: torch.dtype) -> BitsAndBytesConfig:
    if quant == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
