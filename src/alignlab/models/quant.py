"""Weights of four or eight bits through bitsandbytes, for training an adapter on them (QLoRA).

NF4 with double quantisation: arXiv 2305.14314, section 3; int8: arXiv 2208.07339. Linear layers
are quantised, the vocabulary head and the embeddings are not. What an adapter has learned fits the
quantised weights, so it is merged into these, dequantised: the merged model computes what was
trained, is of full size, and keeps the rounding of the quantised weights.
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
from alignlab.models.load import DTYPES, LanguageModel, device_of, load

Quant = Literal["none", "nf4", "int8"]
"""Names of the kinds; "none" is plain weights."""


def load_quantised(
    spec: str | Path,
    quant: Quant,
    *,
    compute: str,
    device: str | torch.device | None = None,
    chat_template: str | Path | None = None,
) -> LanguageModel:
    """A decoder whose linear layers are quantised as they are read.

    Args:
        spec: a local folder in Hugging Face format with plain weights, or a hub id.
        quant: "nf4" or "int8".
        compute: type of the products and of all other weights: "bfloat16" or "float32".
        device: as for `load`.
        chat_template: as for `load`.

    Raises:
        BadInput: bitsandbytes is not installed, or what `load` refuses.
    """
    require_bitsandbytes(quant)
    # It logs for every layer and pass that int8 products round their inputs to half precision.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    chosen = device_of(device)
    reader = _Reader(_settings(quant, DTYPES[compute]), chosen)
    lm = load(spec, dtype=compute, device=chosen, chat_template=chat_template, model_class=reader)
    for module in lm.model.modules():
        # On some CPUs bitsandbytes would rewrite the weights with coarser scales once they are
        # evaluated; a reference and what is trained would then differ.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    digest = hashlib.sha256(f"{lm.fingerprint}+{quant}".encode()).hexdigest()[:16]
    return replace(lm, fingerprint=digest)


def require_bitsandbytes(quant: str) -> None:
    """Make sure that the package that quantises is there.

    Raises:
        BadInput: it is not.
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
    """The plain model of an adapter on quantised weights: these dequantised, the adapter merged.

    The adapted model is used up; the plain one is float32.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    settings = model.peft_config[model.active_adapter]
    learned = get_peft_model_state_dict(model)
    # In the compute type a dequantised weight is the very number that the products took; from
    # there on, float32 keeps the adapter's small updates.
    plain = model.unload().dequantize().float()
    again = get_peft_model(plain, settings)
    set_peft_model_state_dict(again, learned)
    return again.merge_and_unload()


@dataclass(frozen=True)
class _Reader:
    """Stands where `load` expects a class of transformers."""

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
