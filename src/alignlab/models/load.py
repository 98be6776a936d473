"""Models from a hub id or a folder, and back to plain Hugging Face folders."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from alignlab.errors import BadInput
from alignlab.models.attention import keep_soft_cap

log = logging.getLogger(__name__)

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""The names by which configurations call tensor types."""

_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py"]
_HUB_SMALL_FILES = [pattern for pattern in _HUB_FILES if pattern != "*.safetensors"]
_HASHED = (".safetensors", ".jinja", ".model")
_HASHED_NAMES = ("tokenizer.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class LanguageModel:
    """A decoder with its tokenizer; training changes `model` in place."""

    model: Any
    """A transformers PreTrainedModel, or a peft PeftModel around one."""
    tokenizer: Any
    name: str
    """What records call it: the hub id, or the folder's name."""
    path: str
    """The local folder it was read from or saved to."""
    fingerprint: str
    """Content hash of the files at `path` (see `fingerprint`)."""
    device: torch.device


def load(
    spec: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    adapter: str | Path | None = None,
    chat_template: str | Path | None = None,
    trust_remote_code: bool = False,
    model_class: Any = AutoModelForCausalLM,
) -> LanguageModel:
    """Load a decoder and its tokenizer from safetensors files.

    Args:
        spec: a local folder in Hugging Face format, or a hub id.
        dtype: "float32", "bfloat16" or "float16"; None keeps the type of the files.
        device: where the weights go; None is the GPU where there is one, else the CPU.
        adapter: a folder or hub id with a PEFT adapter to put on the model, not merged.
        chat_template: a Jinja template, or a file with one, instead of the tokenizer's own.
        trust_remote_code: run code that comes with the model.
        model_class: transformers' class for another head than the vocabulary's.

    Raises:
        BadInput: no such model, no safetensors weights, or no chat template.
    """
    folder = _resolve(str(spec))
    if model_class is not AutoModelForSequenceClassification:
        _refuse_classifier(folder)
    tokenizer = _tokenizer(folder, chat_template, trust_remote_code)
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        model = model_class.from_pretrained(
            folder,
            dtype=_dtype(dtype),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(
            f"{folder}: expected a decoder in Hugging Face format with safetensors "
            f"weights, found: {_first_line(error)}"
        ) from error
    keep_soft_cap(model)
    if adapter is not None:
        model = _with_adapter(model, str(adapter))
    if not getattr(model, "is_quantized", False):  # those are read to where they stay
        model.to(chosen)
    model.eval()
    name = folder.name if Path(spec).is_dir() else str(spec)
    template = tokenizer.chat_template if chat_template is not None else None
    digest = fingerprint(folder, chat_template=template)
    if adapter is not None:
        digest = hashlib.sha256(
            f"{digest}+{fingerprint(_resolve(str(adapter)))}".encode()
        ).hexdigest()[:16]
    return LanguageModel(model, tokenizer, name, str(folder), digest, chosen)


def save(
    lm: LanguageModel,
    path: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    adapter_only: bool = False,
) -> Path:
    """Write model, tokenizer and template as a plain Hugging Face folder, all or nothing.

    Args:
        lm: the model; an adapter is merged into the weights unless `adapter_only`.
        path: the folder to make; one that is there is replaced.
        dtype: type of the floating point weights in the file; None keeps the model's.
        adapter_only: write the PEFT adapter alone.

    Raises:
        BadInput: `adapter_only` for a model without an adapter, or an adapter that would be merged
            into quantised weights.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".tmp")
    shutil.rmtree(partial, ignore_errors=True)
    has_adapter = hasattr(lm.model, "merge_and_unload")
    if has_adapter and not adapter_only and getattr(lm.model, "is_quantized", False):
        raise BadInput(
            f"{lm.name}: an adapter merged into quantised weights would be rounded away; save "
            "the adapter alone, or merge it first, which dequantises the weights"
        )
    partial.mkdir(parents=True)
    if adapter_only:
        if not has_adapter:
            raise BadInput(f"{lm.name} has no adapter to save")
        lm.model.save_pretrained(partial, safe_serialization=True)
    else:
        _save_plain(lm.model, partial, _dtype(dtype), merge=has_adapter)
    lm.tokenizer.save_pretrained(partial)
    replace_folder(partial, path)
    return path


def fingerprint(folder: str | Path, *, chat_template: str | None = None) -> str:
    """Content hash (16 hex digits) of a folder's weights, tokenizer and chat template.

    Args:
        folder: a model or adapter in Hugging Face format.
        chat_template: the template in use, where it is not the folder's own.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _HASHED or file.name in _HASHED_NAMES:
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    for name in ("config.json", "adapter_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            plain = json.loads((folder / name).read_text(encoding="utf-8"))
            plain.pop("transformers_version", None)
            digest.update(json.dumps(plain, sort_keys=True).encode())
    digest.update((chat_template or "").encode())
    return digest.hexdigest()[:16]


def context_length(lm: LanguageModel) -> int:
    """Most tokens of a sequence, where the model's configuration limits them."""
    config = lm.model.config.get_text_config(decoder=True)
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


def replace_folder(partial: Path, path: Path) -> None:
    """Put a finished folder in the place of another; at no instant is `path` half written."""
    old = path.with_name(path.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(partial, path)
    shutil.rmtree(old, ignore_errors=True)


def _save_plain(model: Any, folder: Path, dtype: torch.dtype | None, *, merge: bool) -> None:
    """Write merged weights without changing the model in memory."""
    if merge:
        model.merge_adapter()
        try:
            inner = model.get_base_model()
            state = {
                name.replace(".base_layer", ""): tensor
                for name, tensor in inner.state_dict().items()
                if "lora_" not in name
            }
            _save_state(inner, folder, state, dtype)
        finally:
            model.unmerge_adapter()
    else:
        _save_state(model, folder, model.state_dict(), dtype)


def _save_state(
    model: Any, folder: Path, state: dict[str, torch.Tensor], dtype: torch.dtype | None
) -> None:
    if dtype is not None:
        # One cast per storage, so that tied weights stay one tensor.
        cast: dict[int, torch.Tensor] = {}
        state = {
            name: cast.setdefault(t.data_ptr(), t.detach().to(dtype))
            if t.is_floating_point()
            else t
            for name, t in state.items()
        }
    attention = model.config._attn_implementation
    model.save_pretrained(folder, state_dict=state)
    model.config._attn_implementation = attention
    if dtype is not None:
        config = folder / "config.json"
        plain = json.loads(config.read_text(encoding="utf-8"))
        plain["dtype"] = str(dtype).removeprefix("torch.")
        config.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _resolve(spec: str, files: list[str] = _HUB_FILES) -> Path:
    """The local folder of a model: the spec itself, or the hub's snapshot of it."""
    folder = Path(spec)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise BadInput(f"{folder}: expected a model folder with config.json, found none")
        return folder
    if folder.is_absolute() or spec.startswith(".") or spec.count("/") > 1:
        raise BadInput(f"{spec}: expected a model folder or a hub id, found no such folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(spec, allow_patterns=files))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise BadInput(
            f"{spec}: expected a model folder or a hub id that can be reached, "
            f"found: {_first_line(error)}"
        ) from error


def _refuse_classifier(folder: Path) -> None:
    """A classifier would load as a decoder with a random vocabulary head."""
    config = folder / "config.json"
    named = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    for name in named.get("architectures") or ():
        if name.endswith("ForSequenceClassification"):
            raise BadInput(f"{folder}: expected a decoder, found a reward model ({name})")


def _tokenizer(folder: Path, chat_template: str | Path | None, trust_remote_code: bool) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder}: expected a tokenizer, found: {_first_line(error)}") from error
    if chat_template is not None:
        tokenizer.chat_template = _template(str(chat_template))
    if not tokenizer.chat_template:
        raise BadInput(
            f"{folder}: the tokenizer has no chat template; give one with "
            f"chat_template=FILE (a Jinja template)"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _template(given: str) -> str:
    """A chat template given as such, or in a file."""
    if "{" in given:
        return given
    try:
        return Path(given).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{given}: expected a file with a chat template, found: {error}") from error


def _with_adapter(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(_resolve(adapter)))
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(
            f"{adapter}: expected a PEFT adapter for this model, found: {_first_line(error)}"
        ) from error


def _dtype(dtype: str | torch.dtype | None) -> Any:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise BadInput(f"dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}")
    return DTYPES[dtype]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
