"""Read and write folders of a PEFT adapter that names its base model by path and by hash.

The base may be an adapter's folder itself: a chain, which is merged from its first model on.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from alignlab.errors import BadInput
from alignlab.files import write_json
from alignlab.models.folders import ADAPTER, BASE, fingerprint, require_weights
from alignlab.models.locate import locate
from alignlab.models.new_tokens import embed_tokens
from alignlab.models.weight_files import open_safetensors, read_model_settings
from alignlab.run_models import is_run

log = logging.getLogger(__name__)

MERGED = "merged"
"""Folder that an adapter on an adapter names as its base: peft would leave out the first one."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_adapter(folder: Path) -> bool:
    """Return True for a folder that holds a PEFT adapter without its base model.

    Raises:
        BadInput: the folder holds a model's weights too, of which the adapter may be a part.
    """
    if not (folder / ADAPTER).is_file():
        return False
    if any(folder.glob("model*.safetensors")):
        raise BadInput(
            f"{folder}: expected a model or an adapter, found both; move {ADAPTER} away if the "
            "adapter is merged already, or give the adapter's folder as the adapter"
        )
    return True


def base_of_adapter(folder: Path) -> str:
    """Return the base model that an adapter's folder names: a folder or another spec.

    Raises:
        BadInput: the adapter names none.
    """
    record = _record(folder)
    if "folder" in record:
        return os.path.normpath(folder.absolute() / record["folder"])
    if record:
        return record["model"]
    base: str = _settings(folder).get("base_model_name_or_path") or ""
    if not base:
        raise BadInput(
            f"{folder}: expected a model, found an adapter that names no base model; give the "
            f"base as the model, with adapter={folder}"
        )
    return base


def checked_base(folder: Path) -> str:
    """Return an adapter's base model, whose files are those that the adapter was trained on.

    An adapter of another tool names no hash; its base is taken as it is.

    Raises:
        BadInput: other files, or none.
    """
    base, record = base_of_adapter(folder), _record(folder)
    for each in (folder, locate(base)):
        require_weights(each)
    if record and (found := fingerprint(locate(base))) != record["fingerprint"]:
        raise BadInput(
            f"{folder}: expected the base model that the adapter was trained on "
            f"({record['fingerprint']}), found other files ({found}) in {base}"
        )
    return base


def decoder_folder(folder: Path) -> Path:
    """Return the folder of the weights that a chain of adapters starts from, or the folder."""
    while is_adapter(folder):
        folder = locate(base_of_adapter(folder))
    return folder


def is_reward_adapter(folder: Path) -> bool:
    """Return True for an adapter of a sequence classifier, which holds the head."""
    return (folder / ADAPTER).is_file() and _settings(folder).get("task_type") == "SEQ_CLS"


def name_base(adapter: Path, base: Path, name: str) -> None:
    """Write the base model into an adapter's folder: for this package, and for peft.

    Within a run the path starts from the adapter, so that the run's folder may move.

    Args:
        adapter: folder of the adapter, next to its later place.
        base: folder that the base model was read from.
        name: hub id of the base model, or another name, which is not used.
    """
    base, adapter = base.absolute(), adapter.absolute()
    run = next((folder for folder in adapter.parents if is_run(folder)), None)
    named = name if _HUB_ID.fullmatch(name) and not Path(name).exists() else str(base)
    near = os.path.relpath(base, adapter) if run and base.is_relative_to(run) else ""
    place = {"folder": near} if near else {"model": named}
    write_json(adapter / BASE, {**place, "fingerprint": fingerprint(base)})
    settings = _settings(adapter)
    merged = str(Path(near or base) / MERGED)
    settings["base_model_name_or_path"] = merged if is_adapter(base) else named
    # peft writes sets, whose order changes from process to process.
    settings["target_modules"] = _ordered(settings.get("target_modules"))
    write_json(adapter / ADAPTER, settings)


def require_adapter(folder: Path, spec: str) -> None:
    """Refuse a folder that is no PEFT adapter with whole weights in safetensors files.

    Raises:
        BadInput: a model without adapter, no weights (or pickled ones), or damaged files.
    """
    if not (folder / ADAPTER).is_file():
        raise BadInput(f"{spec}: expected a PEFT adapter, found no {ADAPTER}")
    require_weights(folder)
    for file in folder.glob("*.safetensors"):
        with open_safetensors(file):
            pass


def warn_of_other_base(folder: Path, base: Path, name: str) -> None:
    """Log where an adapter is put on another model than it was trained on.

    Without a hash of the base, names are compared, for paths move.

    Args:
        folder: folder of the adapter.
        base: folder of the model.
        name: spec of the model.
    """
    record = _record(folder)
    trained_on = str(_settings(folder).get("base_model_name_or_path") or "")
    if record:
        other = record["fingerprint"] != fingerprint(base)
    else:
        other = bool(trained_on) and Path(trained_on).name != Path(name).name
    if other:
        log.warning("%s: trained on %s, put on %s", folder, trained_on, name)


def _ordered(targets: Any) -> Any:
    return sorted(targets) if isinstance(targets, list) else targets


def _settings(folder: Path) -> dict[str, Any]:
    return read_model_settings(folder / ADAPTER)


def _record(folder: Path) -> dict[str, str]:
    """Return the base's folder, name and hash; empty for an adapter of another tool."""
    found: dict[str, str] = read_model_settings(folder / BASE) if (folder / BASE).is_file() else {}
    return found


def chain_of(folder: Path) -> list[Path] | None:
    """Return the adapters of a chain, first one first, whose updates are sums of their matrices.

    None where another part is trained: rows of tokens, whole modules, magnitudes (DoRA), a
    vocabulary's matrix, biases.

    Raises:
        BadInput: a base that is not the one of the training, or none.
    """
    chain: list[Path] = []
    if not (folder / "tokenizer_config.json").is_file():  # that of another in the chain is used
        return None
    while is_adapter(folder):
        chain.insert(0, folder)
        folder = locate(checked_base(folder))
    return chain if all(map(_is_sum, chain)) else None


def _is_sum(folder: Path) -> bool:
    settings = _settings(folder)
    more = ("use_dora", "trainable_token_indices", "modules_to_save", "rank_pattern")
    targets = settings.get("target_modules")
    inner = isinstance(targets, list) and all(name.endswith("_proj") for name in targets)
    plain = inner and not any(settings.get(name) for name in more)
    return plain and settings.get("peft_type") == "LORA" and settings.get("bias") == "none"


def merge_by_layer(model: Any, chain: Sequence[Path], dtype: torch.dtype) -> Any:
    """Merge a chain of adapters into a model, matrix by matrix in float32; each is cast once.

    The sums are those of whole models merged one after the other, and no more than one matrix is
    held in float32 at a time.

    Args:
        model: a transformers model in the type of its files; changed in place.
        chain: adapters that `chain_of` returned.
        dtype: type of the merged weights.
    """
    from peft.tuners.lora import LoraLayer

    adapted = put_on(model, str(chain[0]), chain[0])
    for folder in chain[1:]:
        put_on(adapted, str(folder), folder)
    with torch.no_grad():
        layers: list[Any] = [m for m in adapted.modules() if isinstance(m, LoraLayer)]
        for layer in layers:
            weight = layer.get_base_layer().weight
            weight.data = weight.data.float()
            layer.merge(adapter_names=list(adapted.peft_config))
            weight.data = weight.data.to(dtype)
    return adapted.unload()


def put_on(model: Any, adapter: str, folder: Path) -> Any:
    """Put an adapter on a model, unmerged.

    Args:
        model: a transformers model, or a peft model around one; changed in place.
        adapter: spec of the adapter, for messages.
        folder: folder of the adapter.

    Raises:
        BadInput: an adapter of another model.
    """
    from peft import PeftModel

    require_adapter(folder, adapter)
    name = f"chain-{len(model.peft_config)}" if isinstance(model, PeftModel) else "default"
    try:
        if name == "default":
            embed_tokens(model, _rows_of_adapter(model, _settings(folder)), None)
            model = PeftModel.from_pretrained(model, str(folder))
        # peft leaves out weights of other names, and fills those that are missing.
        adapted, loaded = model, model.load_adapter(str(folder), name)
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
