"""Define presets: defaults for a kind of model, overridden by all settings of the user."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import yaml

from alignlab import configs
from alignlab.errors import BadInput

PresetName = Literal["sandbox", "quick", "small", "paper", "poster", "r3"]
NAMES: tuple[str, ...] = get_args(PresetName)
SMALL_BYTES = 2 * 10**9
"""Size of safetensors files, in bytes, below which `preset=auto` is small (a billion parameters in
bfloat16)."""


class Preset(NamedTuple):
    """Name and settings of a preset."""

    name: Any
    settings: dict[str, Any]


def preset_for(model: str, preset: str, objective: str, keys: Collection[str]) -> Preset:
    """Return the preset that applies, reduced to the settings that a recipe has.

    Args:
        model: spec of the base model, which decides if `preset` is "auto".
        preset: name of a preset, or "auto".
        objective: the study's objective; the preset's options are dropped for any other objective.
        keys: the recipe's settings at the top level.
    """
    name = preset if preset != "auto" else _preset_of_model(model)
    settings = {key: value for key, value in _settings_of(name).items() if key in keys}
    if "objective" in settings and objective != settings["objective"]["name"]:
        del settings["objective"]
    return Preset(name, settings)


def _settings_of(name: str) -> dict[str, Any]:
    """Read a preset's settings, over those of the preset that it extends."""
    text = resources.files("alignlab.recipes").joinpath("presets", f"{name}.yaml").read_text()
    settings: dict[str, Any] = yaml.safe_load(text)
    base = settings.pop("extends", None)
    if base is None:
        return settings
    whole = _settings_of(base)
    configs.merge(whole, settings)
    return whole


def _preset_of_model(model: str) -> PresetName:
    if model.startswith("sandbox:"):
        return "sandbox"
    folder, size = Path(model), 0
    if (folder / "config.json").is_file():
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if not size:  # a hub id, a GGUF file, a package, an adapter or a run directory
        from alignlab.models.facts import parameter_count

        try:
            size = 2 * parameter_count(model)
        except BadInput:  # the study's own checks tell why
            return "paper"
    return "small" if size < SMALL_BYTES else "paper"
