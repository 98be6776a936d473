"""Write a model's weights, and generation settings that stop at the end of turn."""

from __future__ import annotations

import copy
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from alignlab.models import chat_template as templates

if TYPE_CHECKING:
    from alignlab.models.load import LanguageModel

log = logging.getLogger(__name__)


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
