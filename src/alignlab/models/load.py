"""Load models from a hub id or a folder, and save them as Hugging Face folders."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils import logging as hf_logging

from alignlab.errors import BadInput, expecting
from alignlab.models import chat_template as templates
from alignlab.models.attention import keep_soft_cap
from alignlab.models.deferred import StoredWeights as StoredWeights
from alignlab.models.deferred import deferred_model
from alignlab.models.dtypes import DTYPES as DTYPES
from alignlab.models.dtypes import check_dtype, resolve_dtype, stored_parameters
from alignlab.models.dtypes import device_of as device_of
from alignlab.models.folders import fingerprint as fingerprint
from alignlab.models.folders import replace_folder as replace_folder
from alignlab.models.locate import locate, short_name
from alignlab.models.new_tokens import embed_tokens
from alignlab.models.saving import save_weights
from alignlab.models.tokenizer import ReadTokenizer, plain_tokenizer, read_tokenizer

log = logging.getLogger(__name__)

_ADAPTER = "adapter_config.json"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Type name in a safetensors file -> floating type."""


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
    added: tuple[int, ...] = ()
    """Ids of the tokens that the chat template added on loading; not trained yet."""
    through: Callable[[Callable[[], Any]], Any] | None = None
    """Caller of forward passes of weights that processes share (see `Scorer`); None calls them
    directly."""
    weights: StoredWeights | None = None
    """Files of the weights of a model on the meta device; None where they are in memory."""


@contextmanager
def without_bars() -> Iterator[None]:
    """Switch transformers' progress bars off inside the block: they tear the study's own apart."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def load(
    spec: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    adapter: str | Path | None = None,
    chat_template: str | Path | None = None,
    trust_remote_code: bool = False,
    model_class: Any = AutoModelForCausalLM,
    deferred: bool = False,
) -> LanguageModel:
    """Load a decoder and its tokenizer from safetensors files.

    Args:
        spec: folder, run directory, GGUF file, package:NAME or hub id (see `locate`). A PEFT
            adapter is merged into the base model that it names.
        dtype: "float32", "bfloat16", "float16", or "auto" (see `dtypes`); None uses the type of the
            files.
        device: device of the weights; None and "auto" are the GPU where there is one, else the CPU.
        adapter: folder or hub id of a PEFT adapter to add to the model, unmerged.
        chat_template: Jinja template, a file with one, or the name of one (`tokenizer.TEMPLATES`),
            instead of the tokenizer's own; tokens that a named one adds get embeddings.
        trust_remote_code: run code that comes with the model.
        model_class: class of transformers for another head than the vocabulary's.
        deferred: leave the weights on the meta device, to be read in parts (`weights`), where the
            files allow it and no row is to be added.

    Raises:
        BadInput: no such model, no safetensors weights, no chat template, or a template whose
            tokens have no embeddings in the model.
    """
    folder = locate(spec)
    if is_adapter(folder):
        options = {"dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
        return _merged_adapter(spec, folder, adapter, chat_template, **options)
    if model_class is not AutoModelForSequenceClassification:
        _refuse_classifier(folder)
    put_on = None if adapter is None else locate(adapter)
    tokenizer, added = _tokenizer_with(folder, put_on, chat_template, trust_remote_code)
    chosen = device_of(device)
    kind, weights = _dtype(dtype, chosen, folder), None
    if deferred and not added and put_on is None:
        model, weights = _deferred(folder, model_class, kind, trust_remote_code)
    else:
        model = _read_model(folder, model_class, kind, trust_remote_code)
    model.name_or_path = str(spec)  # an adapter of this model names it as its base
    embed_tokens(model, added, tokenizer.eos_token_id)
    if put_on is not None:
        model = _with_adapter(model, str(adapter), put_on)
    # Quantised weights are loaded in place, deferred ones later.
    if weights is None and not getattr(model, "is_quantized", False):
        model.to(chosen)
    model.eval()
    template = tokenizer.chat_template if chat_template is not None else None
    digest = fingerprint(folder, chat_template=template)
    if put_on is not None:
        digest = hashlib.sha256(f"{digest}+{fingerprint(put_on)}".encode()).hexdigest()[:16]
    name, stored = short_name(spec, folder), stored_type(folder)
    lm = LanguageModel(
        model, tokenizer, name, str(folder), digest, chosen, stored, added, weights=weights
    )
    templates.check_template(lm)
    return lm


def _tokenizer_with(
    folder: Path, adapter: Path | None, chat_template: str | Path | None, trust_remote_code: bool
) -> ReadTokenizer:
    """Read the tokenizer that an adapter was trained with, if it has one, else the model's."""
    if adapter is None or not any((adapter / name).is_file() for name in _TOKENIZER):
        return read_tokenizer(folder, chat_template, trust_remote_code)
    if chat_template is None and not plain_tokenizer(adapter).chat_template:
        chat_template = plain_tokenizer(folder, trust_remote_code).chat_template
    return read_tokenizer(adapter, chat_template, trust_remote_code)


def _read_model(folder: Path, model_class: Any, dtype: Any, trust_remote_code: bool) -> Any:
    """Read a model's weights from safetensors files."""
    expected = "a decoder in Hugging Face format with safetensors weights"
    with expecting(expected, folder), without_bars():
        model = model_class.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code
        )
    keep_soft_cap(model)
    return model


def _deferred(
    folder: Path, model_class: Any, dtype: Any, trust_remote_code: bool
) -> tuple[Any, StoredWeights | None]:
    """Build a model on the meta device where its files allow it, else read its weights."""
    found = deferred_model(folder, model_class, dtype, trust_remote_code)
    if isinstance(found, str):
        log.warning("each process reads the whole model into memory first: %s", found)
        return _read_model(folder, model_class, dtype, trust_remote_code), None
    return found


def is_adapter(folder: Path) -> bool:
    """Return True for a folder that holds a PEFT adapter without its base model.

    Raises:
        BadInput: the folder holds a model's weights too, of which the adapter may be a part.
    """
    if not (folder / _ADAPTER).is_file():
        return False
    if any(folder.glob("model*.safetensors")):
        raise BadInput(
            f"{folder}: expected a model or an adapter, found both; move {_ADAPTER} away if the "
            "adapter is merged already, or give the adapter's folder as the adapter"
        )
    return True


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
    try:
        lm = load(base, adapter=folder, chat_template=chat_template, **options)
    except BadInput as error:
        raise BadInput(f"{spec}: an adapter of {base}: {error}") from error
    model = lm.model.merge_and_unload().requires_grad_(True)
    return replace(lm, model=model, name=short_name(spec, folder), path=str(folder))


@without_bars()
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
        # Rows of added tokens are part of the adapter; all embeddings would be as large as a model.
        whole = {"save_embedding_layers": False} if lm.added else {}
        lm.model.save_pretrained(partial, safe_serialization=True, **whole)
    else:
        save_weights(lm, partial, _dtype(dtype))
    lm.tokenizer.save_pretrained(partial)
    replace_folder(partial, path)
    return path


def context_length(lm: LanguageModel) -> int:
    """Return the longest sequence in tokens that the model's configuration allows."""
    config = lm.model.config.get_text_config(decoder=True)
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


def stored_type(folder: Path) -> torch.dtype | None:
    """Return the floating type of the first weight in a folder's safetensors files."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - a safetensors file is no mapping
                if (found := _STORED.get(weights.get_slice(name).get_dtype())) is not None:
                    return found
    return None


def classifier_in(folder: str | Path) -> str:
    """Return the class of the sequence classifier in a folder; empty for another model."""
    config = Path(folder) / "config.json"
    named = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    classes = named.get("architectures") or ()
    return next((c for c in classes if c.endswith("ForSequenceClassification")), "")


def _refuse_classifier(folder: Path) -> None:
    """Refuse a classifier, which would load as a decoder with a random vocabulary head."""
    if name := classifier_in(folder):
        raise BadInput(f"{folder}: expected a decoder, found a reward model ({name})")


def _with_adapter(model: Any, adapter: str, folder: Path) -> Any:
    from peft import PeftModel

    settings = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
    embed_tokens(model, _rows_of_adapter(model, settings), None)
    trained_on = str(settings.get("base_model_name_or_path") or "")
    if trained_on and Path(trained_on).name != Path(str(model.name_or_path)).name:
        log.warning("%s: trained on %s, put on %s", adapter, trained_on, model.name_or_path)
    try:
        adapted = PeftModel.from_pretrained(model, str(folder))
        # peft leaves out weights of other names, and fills those that are missing.
        loaded = adapted.load_adapter(str(folder), "default")
        if wrong := [*loaded.missing_keys, *loaded.unexpected_keys]:
            kind = "missing" if loaded.missing_keys else "further"
            raise ValueError(f"{len(wrong)} {kind} weights, the first {wrong[0]}")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadInput(
            f"{adapter}: expected a PEFT adapter for this model, found: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    untie_adapted(adapted)
    return adapted


def _rows_of_adapter(model: Any, settings: Mapping[str, Any]) -> list[int]:
    """Return the tokens whose rows an adapter holds and the model lacks."""
    held = settings.get("trainable_token_indices") or []
    ids = [i for part in held.values() for i in part] if isinstance(held, dict) else held
    rows = model.get_input_embeddings().weight.shape[0]
    return sorted({i for i in ids if i >= rows})


def untie_adapted(model: Any) -> None:
    """Untie head and embeddings where an adapter changes one of the two.

    Merging the adapter would otherwise change both, and a saved model whose configuration ties
    them would lose one.
    """
    base = model.get_base_model()
    ends = base.get_input_embeddings(), base.get_output_embeddings()
    if getattr(getattr(ends[1], "token_adapter", None), "tied_adapter", None) is not None:
        return  # peft trains rows of both as one
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
