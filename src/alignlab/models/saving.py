"""Write models and adapters as folders, with generation settings that stop at the end of turn."""

from __future__ import annotations

import copy
import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig
from transformers.utils import logging as hf_logging

from alignlab.errors import BadInput
from alignlab.models import chat_template as templates
from alignlab.models.adapter_folders import is_adapter, name_base
from alignlab.models.dtypes import DTYPES, check_dtype
from alignlab.models.folders import replace_folder

if TYPE_CHECKING:
    from alignlab.models.load import LanguageModel

log = logging.getLogger(__name__)


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
        # peft looks for the vocabulary of a base that is an adapter on the hub.
        on_adapter = bool(lm.path) and is_adapter(Path(lm.path))
        whole = {"save_embedding_layers": False} if lm.added or on_adapter else {}
        lm.model.save_pretrained(partial, safe_serialization=True, **whole)
    else:
        if isinstance(dtype, str):
            check_dtype(dtype)
            dtype = DTYPES[dtype]
        save_weights(lm, partial, dtype)
    lm.tokenizer.save_pretrained(partial)
    replace_folder(partial, path)
    return path


def save_adapter(lm: LanguageModel, path: Path) -> None:
    """Save a trained adapter alone, its base named by path and hash; atomically.

    Args:
        lm: a model with an adapter, whose `path` is the folder of its base model.
        path: folder to make or replace.

    Raises:
        BadInput: the model has no adapter.
    """
    partial = save(lm, path.with_name(f"{path.name}.unnamed"), adapter_only=True)
    (partial / "README.md").unlink(missing_ok=True)  # peft's form of a model card, not filled in
    name_base(partial, Path(lm.path), lm.name)
    replace_folder(partial, path)


def save_weights(lm: LanguageModel, folder: Path, dtype: torch.dtype | None) -> None:
    """Save weights, adapters merged, and generation settings; the model stays as it is.

    Args:
        lm: the model.
        folder: existing folder.
        dtype: type of the floating point weights in the file; None uses the model's.
    """
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
