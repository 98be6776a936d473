"""Load models from a hub id or a folder, and save them as Hugging Face folders."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

from alignlab.errors import BadInput
from alignlab.models import chat_template as templates
from alignlab.models.attention import keep_soft_cap
from alignlab.models.dtypes import DTYPES as DTYPES
from alignlab.models.dtypes import check_dtype, resolve_dtype, stored_parameters
from alignlab.models.dtypes import device_of as device_of

log = logging.getLogger(__name__)

_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py"]
_HUB_SMALL_FILES = [pattern for pattern in _HUB_FILES if pattern != "*.safetensors"]
_ADAPTER = "adapter_config.json"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Type name in a safetensors file -> floating type."""
_HASHED = (".safetensors", ".jinja", ".model")
_HASHED_NAMES = ("tokenizer.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class LanguageModel:
    """Decoder with its tokenizer; training changes `model` in place."""

    model: Any
    """A transformers PreTrainedModel, or a peft PeftModel around one."""
    tokenizer: Any
    name: str
    """Name in records: the hub id, or the folder's name."""
    path: str
    """Local folder that the model was read from or saved to."""
    fingerprint: str
    """Content hash of the files at `path` (see `fingerprint`)."""
    device: torch.device
    stored: torch.dtype | None = None
    """Type of the weights in the files at `path`; None where unknown."""


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
        spec: local folder in Hugging Face format, or hub id. A PEFT adapter is merged into the base
            model that it names.
        dtype: "float32", "bfloat16", "float16", or "auto" (see `dtypes`); None uses the type of the
            files.
        device: device of the weights; None and "auto" are the GPU where there is one, else the CPU.
        adapter: folder or hub id of a PEFT adapter to add to the model, unmerged.
        chat_template: Jinja template, or a file with one, instead of the tokenizer's own.
        trust_remote_code: run code that comes with the model.
        model_class: class of transformers for another head than the vocabulary's.

    Raises:
        BadInput: no such model, no safetensors weights, no chat template, or a template whose
            tokens have no embeddings in the model.
    """
    folder = _resolve(str(spec))
    if is_adapter(folder):
        options = {"dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
        return _merged_adapter(spec, folder, adapter, chat_template, **options)
    if model_class is not AutoModelForSequenceClassification:
        _refuse_classifier(folder)
    tokenizer = _tokenizer(folder, chat_template, trust_remote_code)
    chosen = device_of(device)
    model = _read_model(folder, model_class, _dtype(dtype, chosen, folder), trust_remote_code)
    if adapter is not None:
        model = _with_adapter(model, str(adapter))
    if not getattr(model, "is_quantized", False):  # quantised weights are loaded in place
        model.to(chosen)
    model.eval()
    name = folder.name if Path(spec).is_dir() else str(spec)
    template = tokenizer.chat_template if chat_template is not None else None
    digest = fingerprint(folder, chat_template=template)
    if adapter is not None:
        digest = hashlib.sha256(
            f"{digest}+{fingerprint(_resolve(str(adapter)))}".encode()
        ).hexdigest()[:16]
    lm = LanguageModel(model, tokenizer, name, str(folder), digest, chosen, _stored(folder))
    templates.check_template(lm)
    return lm


@contextmanager
def expecting(expected: str, spec: str | Path) -> Iterator[None]:
    """Turn errors of transformers on reading a model's files into `BadInput`."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{spec}: expected {expected}, found: {_first_line(error)}") from error


def _read_model(folder: Path, model_class: Any, dtype: Any, trust_remote_code: bool) -> Any:
    """Read a model's weights from safetensors files."""
    with expecting("a decoder in Hugging Face format with safetensors weights", folder):
        model = model_class.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code
        )
    keep_soft_cap(model)
    return model


def is_adapter(folder: Path) -> bool:
    """Return True for a folder that holds a PEFT adapter without its base model."""
    return (folder / _ADAPTER).is_file() and not (folder / "config.json").is_file()


def base_of_adapter(folder: Path) -> str:
    """Return the base model that an adapter's folder names.

    Raises:
        BadInput: the adapter names none.
    """
    settings = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
    base: str = settings.get("base_model_name_or_path") or ""
    if not base:
        raise BadInput(
            f"{folder}: expected a model, found an adapter that names no base model; give the "
            f"base as the model, with adapter={folder}"
        )
    return base


def _merged_adapter(
    spec: str | Path,
    folder: Path,
    adapter: str | Path | None,
    chat_template: str | Path | None,
    **options: Any,
) -> LanguageModel:
    """Load the base model of an adapter's folder with the adapter merged."""
    if adapter is not None:
        raise BadInput(
            f"{spec}: expected a model to put the adapter {adapter} on, found an adapter"
        )
    base = base_of_adapter(folder)
    has_tokenizer = any((folder / name).is_file() for name in _TOKENIZER)
    if has_tokenizer and chat_template is None:  # which the base model may lack
        chat_template = _plain_tokenizer(folder, False).chat_template
    try:
        lm = load(base, adapter=folder, chat_template=chat_template, **options)
    except BadInput as error:
        raise BadInput(f"{spec}: an adapter of {base}: {error}") from error
    if has_tokenizer:
        lm = replace(lm, tokenizer=_tokenizer(folder, lm.tokenizer.chat_template, False))
        templates.check_template(lm)
    model = lm.model.merge_and_unload().requires_grad_(True)
    name = folder.name if Path(spec).is_dir() else str(spec)
    return replace(lm, model=model, name=name, path=str(folder))


def save(
    lm: LanguageModel,
    path: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    adapter_only: bool = False,
) -> Path:
    """Save model, tokenizer and template as a Hugging Face folder, atomically.

    Args:
        lm: the model; an adapter is merged into the weights unless `adapter_only`.
        path: folder to make or replace.
        dtype: type of the floating point weights in the file; None uses the model's.
        adapter_only: write only the PEFT adapter.

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
        _save_plain(lm, partial, _dtype(dtype))
    lm.tokenizer.save_pretrained(partial)
    replace_folder(partial, path)
    return path


def fingerprint(folder: str | Path, *, chat_template: str | None = None) -> str:
    """Hash a folder's weights, tokenizer and chat template; 16 hex digits.

    Args:
        folder: model or adapter in Hugging Face format.
        chat_template: template in use, where it is not the folder's own.
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
    """Return the longest sequence in tokens that the model's configuration allows."""
    config = lm.model.config.get_text_config(decoder=True)
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


def replace_folder(partial: Path, path: Path) -> None:
    """Replace a folder by a finished one, so that `path` never holds a part of it."""
    old = path.with_name(path.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(partial, path)
    shutil.rmtree(old, ignore_errors=True)


def _save_plain(lm: LanguageModel, folder: Path, dtype: torch.dtype | None) -> None:
    """Save merged weights without changing the model in memory."""
    model, state = lm.model, None
    if hasattr(model, "merge_and_unload"):
        model = copy.deepcopy(model).merge_and_unload()
    if dtype is not None:
        # One cast per storage, so that tied weights stay one tensor.
        cast: dict[int, torch.Tensor] = {}
        state = {
            name: cast.setdefault(t.data_ptr(), t.detach().to(dtype))
            if t.is_floating_point()
            else t
            for name, t in model.state_dict().items()
        }
    attention, own = model.config._attn_implementation, getattr(model, "generation_config", None)
    if own is not None:
        model.generation_config = _generation_config(lm, own)
    try:
        model.save_pretrained(folder, state_dict=state)
    finally:
        model.config._attn_implementation = attention
        if own is not None:
            model.generation_config = own
    if dtype is not None:
        config = folder / "config.json"
        plain = json.loads(config.read_text(encoding="utf-8"))
        plain["dtype"] = str(dtype).removeprefix("torch.")
        config.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _generation_config(lm: LanguageModel, own: Any) -> Any:
    """Return valid generation settings that stop at the template's end of turn.

    transformers reads settings with a temperature but without sampling, ignores the temperature,
    and refuses to write them; such settings are reset to their defaults.
    """
    made = copy.deepcopy(own)
    # The end of turn first: some servers read the first token alone.
    end = templates.end_of_turn(lm)
    made.eos_token_id = [end, *sorted(templates.stop_tokens(lm) - {end})]
    if len(made.eos_token_id) == 1:
        made.eos_token_id = end
    try:
        made.validate(strict=True)
    except ValueError as error:
        names = re.findall(r"^- `(\w+)`", str(error), re.MULTILINE)
        log.warning("settings of generation without effect are not saved: %s", ", ".join(names))
        for name in names:
            usual = GenerationConfig()  # type: ignore[no-untyped-call]
            setattr(made, name, getattr(usual, name))
    return made


def _stored(folder: Path) -> torch.dtype | None:
    """Return the floating type of the first weight in a folder's safetensors files."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - a safetensors file is no mapping
                if (found := _STORED.get(weights.get_slice(name).get_dtype())) is not None:
                    return found
    return None


def _resolve(spec: str, files: list[str] = _HUB_FILES) -> Path:
    """Return a model's local folder: the spec itself, or the hub's snapshot of it."""
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
    """Refuse a classifier, which would load as a decoder with a random vocabulary head."""
    config = folder / "config.json"
    named = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    for name in named.get("architectures") or ():
        if name.endswith("ForSequenceClassification"):
            raise BadInput(f"{folder}: expected a decoder, found a reward model ({name})")


def _tokenizer(folder: Path, chat_template: str | Path | None, trust_remote_code: bool) -> Any:
    tokenizer = _plain_tokenizer(folder, trust_remote_code)
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


def _plain_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    with expecting("a tokenizer", folder):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)


def _template(given: str) -> str:
    """Return a chat template, given as text or as a file."""
    if "{" in given:
        return given
    try:
        return Path(given).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{given}: expected a file with a chat template, found: {error}") from error


def _with_adapter(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(model, str(_resolve(adapter)))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadInput(
            f"{adapter}: expected a PEFT adapter for this model, found: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    untie_adapted(adapted)
    return adapted


def untie_adapted(model: Any) -> None:
    """Untie head and embeddings where an adapter changes one of the two.

    Merging the adapter would otherwise change both, and a saved model whose configuration ties
    them would lose one.
    """
    base = model.get_base_model()
    ends = base.get_input_embeddings(), base.get_output_embeddings()
    inner = [getattr(m, "base_layer", getattr(m, "original_module", m)) for m in ends]
    adapted = any(m is not end for m, end in zip(inner, ends, strict=True))
    if not adapted or inner[1] is None or inner[0].weight is not inner[1].weight:
        return
    weight = inner[1].weight
    inner[1].weight = torch.nn.Parameter(weight.detach().clone(), weight.requires_grad)
    for config in (base.config, base.config.get_text_config(decoder=True)):
        config.tie_word_embeddings = False


def _dtype(
    dtype: str | torch.dtype | None, device: torch.device | None = None, folder: Path | None = None
) -> Any:
    """Return a type by name; with a device and a model's folder, "auto" too."""
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    check_dtype(dtype)
    if dtype == "auto" and device is not None and folder is not None:
        dtype = resolve_dtype(dtype, device, stored_parameters(folder))
    return DTYPES[dtype]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
