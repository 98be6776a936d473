"""Load models from a hub id or a folder, and save them as Hugging Face folders."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from alignlab.errors import BadInput
from alignlab.models import adapter_folders
from alignlab.models import chat_template as templates
from alignlab.models.adapter_folders import base_of_adapter as base_of_adapter
from alignlab.models.adapter_folders import is_adapter as is_adapter
from alignlab.models.attention import keep_soft_cap
from alignlab.models.deferred import StoredWeights as StoredWeights
from alignlab.models.deferred import deferred_model
from alignlab.models.dtypes import DTYPES as DTYPES
from alignlab.models.dtypes import check_dtype, resolve_dtype, stored_parameters
from alignlab.models.dtypes import device_of as device_of
from alignlab.models.folders import fingerprint as fingerprint
from alignlab.models.folders import replace_folder as replace_folder
from alignlab.models.locate import HUB_SMALL_FILES, locate, short_name
from alignlab.models.new_tokens import embed_tokens
from alignlab.models.saving import save as save
from alignlab.models.saving import save_adapter as save_adapter
from alignlab.models.saving import without_bars as without_bars
from alignlab.models.tokenizer import ReadTokenizer, plain_tokenizer, read_tokenizer
from alignlab.models.weight_files import (
    open_safetensors,
    read_model_settings,
    read_whole_model,
    reading,
)

log = logging.getLogger(__name__)

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
    """Content hash of the files at `path` (see `fingerprint`); with an adapter merged, of both."""
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
            adapter is merged into the base model that it names, in float32.
        dtype: "float32", "bfloat16", "float16", or "auto" (see `dtypes`); None uses the type of the
            files, and float32 for an adapter.
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
    if model_class is not AutoModelForSequenceClassification:
        _refuse_classifier(folder)
    if is_adapter(folder):
        if adapter is not None:
            raise BadInput(
                f"{spec}: expected a model to put the adapter {adapter} on, found an adapter"
            )
        if deferred:
            log.warning("each process reads the whole model into memory first: it is an adapter")
        kind = _dtype(dtype, device_of(device), folder) or torch.float32
        chain = None if kind == torch.float32 else adapter_folders.chain_of(folder)
        under = base_for(folder, chat_template, trust_remote_code, whole=chain is None)
        return merged_onto(under, spec, dtype=kind, device=device, chain=chain)
    put_on = None if adapter is None else locate(adapter)
    if put_on is not None:
        adapter_folders.require_adapter(put_on, str(adapter))
    chosen = device_of(device)
    lm = _opened(
        (spec, folder, put_on),
        _dtype(dtype, chosen, folder),
        chat_template,
        trust_remote_code,
        model_class,
        deferred,
    )
    if put_on is not None:
        adapter_folders.warn_of_other_base(put_on, folder, str(spec))
        lm = replace(lm, model=adapter_folders.put_on(lm.model, str(adapter), put_on))
    # Quantised weights are loaded in place, deferred ones later.
    if lm.weights is None and not getattr(lm.model, "is_quantized", False):
        lm.model.to(chosen)
    lm.model.eval()
    templates.check_template(lm)
    return replace(lm, device=chosen)


def base_for(
    folder: Path,
    chat_template: str | Path | None = None,
    trust_remote_code: bool = False,
    *,
    whole: bool = True,
) -> LanguageModel:
    """Load an adapter's base model with the adapter's tokenizer, on the CPU.

    Args:
        folder: the adapter, which is not put on.
        chat_template: template instead of the tokenizer's own.
        trust_remote_code: run code that comes with the base model.
        whole: merge a base that is an adapter itself, and hold the weights in float32; else they
            are those of the chain's first model, in the type of its files.

    Raises:
        BadInput: no base model, or another one than the adapter was trained on.
    """
    base = base_of_adapter(folder)
    try:
        base = adapter_folders.checked_base(folder)
        of = base, locate(base), folder
        return _opened(of, torch.float32 if whole else None, chat_template, trust_remote_code)
    except BadInput as error:
        raise BadInput(f"{folder}: an adapter of {base}: {error}") from error


def merged_onto(
    lm: LanguageModel,
    spec: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    chain: Sequence[Path] | None = None,
) -> LanguageModel:
    """Merge an adapter into its base model in float32 on the CPU, then cast and move the weights.

    Args:
        lm: the base model, which is consumed.
        spec: spec of the adapter.
        dtype: as in `load`; None is float32.
        device: as in `load`.
        chain: adapters to merge one matrix at a time into a chain's first model.
    """
    folder, chosen = locate(spec), device_of(device)
    kind = _dtype(dtype, chosen, folder) or torch.float32
    try:
        if chain is None:
            model = adapter_folders.put_on(lm.model, str(spec), folder).merge_and_unload()
        else:
            model = adapter_folders.merge_by_layer(lm.model, chain, kind)
    except BadInput as error:
        raise BadInput(f"{spec}: an adapter of {lm.name}: {error}") from error
    model.requires_grad_(True).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(chosen, kind)
    model.to(chosen).config.dtype = kind
    model.name_or_path = str(spec)
    found = replace(
        lm,
        model=model,
        name=short_name(spec, folder),
        path=str(folder),
        device=chosen,
        stored=torch.float32,
    )
    templates.check_template(found)
    return found


def _opened(
    of: tuple[str | Path, Path, Path | None],
    dtype: Any,
    chat_template: str | Path | None,
    trust_remote_code: bool,
    model_class: Any = AutoModelForCausalLM,
    deferred: bool = False,
) -> LanguageModel:
    """Read a model on the CPU, with rows for the tokens of its template or of an adapter's.

    Args:
        of: spec and folder of the model, and the folder of an adapter that will be put on it.
        dtype: type of the weights; None is that of the files, and of a chain's first model.
    """
    spec, folder, put_on = of
    tokenizer, added = _tokenizer_with(folder, put_on, chat_template, trust_remote_code)
    weights = None
    if is_adapter(folder) and dtype is not None:
        model = load(folder, dtype=dtype, device="cpu", trust_remote_code=trust_remote_code).model
    elif deferred and not added and put_on is None:
        model, weights = _deferred(folder, model_class, dtype, trust_remote_code)
    else:
        first = adapter_folders.decoder_folder(folder)
        model = _read_model(first, model_class, dtype, trust_remote_code)
    model.name_or_path = str(spec)  # an adapter of this model names it as its base
    embed_tokens(model, added, tokenizer.eos_token_id)
    template = tokenizer.chat_template if chat_template is not None else None
    digest = fingerprint(folder, chat_template=template)
    if put_on is not None:
        digest = hashlib.sha256(f"{digest}+{fingerprint(put_on)}".encode()).hexdigest()[:16]
    name, stored = short_name(spec, folder), stored_type(folder)
    cpu = torch.device("cpu")
    return LanguageModel(
        model, tokenizer, name, str(folder), digest, cpu, stored, added, weights=weights
    )


def tokenizer_of(folder: Path, chat_template: str | Path | None = None) -> ReadTokenizer:
    """Read the tokenizer of a model's folder; an adapter without one has its base's.

    Args:
        folder: folder of a model or of an adapter.
        chat_template: template instead of the tokenizer's own.

    Raises:
        BadInput: no tokenizer, or no chat template.
    """
    if not is_adapter(folder):
        return read_tokenizer(folder, chat_template)
    base = locate(base_of_adapter(folder), files=HUB_SMALL_FILES)
    if any((folder / name).is_file() for name in _TOKENIZER):
        return _tokenizer_with(base, folder, chat_template, trust_remote_code=False)
    return tokenizer_of(base, chat_template)


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
    with reading(expected, folder), without_bars():
        model = read_whole_model(
            model_class, folder, dtype=dtype, trust_remote_code=trust_remote_code
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


@contextmanager
def merged_folder(spec: str | Path) -> Iterator[Path]:
    """Yield a model's folder; of an adapter, one with the merged model, deleted afterwards.

    For readers that know whole models alone.

    Args:
        spec: as in `load`.
    """
    folder = locate(spec)
    if not is_adapter(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="alignlab-merged-") as made:
        yield save(load(spec, device="cpu"), Path(made) / "model")


def context_length(lm: LanguageModel) -> int:
    """Return the longest sequence in tokens that the model's configuration allows."""
    config = lm.model.config.get_text_config(decoder=True)
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


def stored_type(folder: Path) -> torch.dtype | None:
    """Return the floating type of the first weight in a folder's safetensors files."""
    for file in sorted(folder.glob("*.safetensors")):
        with open_safetensors(file) as weights:
            for name in weights.keys():  # noqa: SIM118 - a safetensors file is no mapping
                if (found := _STORED.get(weights.get_slice(name).get_dtype())) is not None:
                    return found
    return None


def classifier_in(folder: str | Path) -> str:
    """Return the kind of sequence classifier in a folder, by its class; empty for another model."""
    if adapter_folders.is_reward_adapter(Path(folder)):
        return "an adapter ForSequenceClassification"
    config = Path(folder) / "config.json"
    named = read_model_settings(config) if config.is_file() else {}
    classes = named.get("architectures") or ()
    return next((c for c in classes if c.endswith("ForSequenceClassification")), "")


def _refuse_classifier(folder: Path) -> None:
    """Refuse a classifier, which would load as a decoder with a random vocabulary head."""
    if name := classifier_in(folder):
        raise BadInput(f"{folder}: expected a decoder, found a reward model ({name})")


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
