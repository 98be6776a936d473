"""Presets: defaults for a kind of model, under everything that the user sets."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import yaml

PresetName = Literal["sandbox", "small", "paper", "poster", "r3"]
NAMES: tuple[str, ...] = get_args(PresetName)
SMALL_BYTES = 2 * 10**9
"""Safetensors bytes below which `preset=auto` takes a model for a small one (a billion bf16s)."""


class Preset(NamedTuple):
    """A preset's name and its settings."""

    name: Any
    settings: dict[str, Any]


def preset_for(model: str, preset: str, objective: str, keys: Collection[str]) -> Preset:
    """Return the preset that applies, with the settings that a recipe has.

    Args:
        model: spec of the base model, which decides where `preset` is "auto".
        preset: name of a preset, or "auto".
        objective: the study's objective; the preset's options are left out for another one.
        keys: the recipe's settings at the top level.
    """
    name = preset if preset != "auto" else _preset_of_model(model)
    text = resources.files("alignlab.recipes").joinpath("presets", f"{name}.yaml").read_text()
    settings = {key: value for key, value in yaml.safe_load(text).items() if key in keys}
    if "objective" in settings and objective != settings["objective"]["name"]:
        del settings["objective"]
    return Preset(name, settings)


def _preset_of_model(model: str) -> PresetName:
    if model.startswith("sandbox:"):
        return "sandbox"
    if not Path(model).is_dir():
        return "paper"
    size = sum(file.stat().st_size for file in Path(model).glob("*.safetensors"))
    return "small" if size < SMALL_BYTES else "paper"
