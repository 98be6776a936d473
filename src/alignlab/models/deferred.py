"""Build a model without its weights, and read these in parts from safetensors files.

Parameters are on the meta device, which holds no memory. A process that shares the weights with
others then reads the rows of its shards alone (`training/shards.py`).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, GenerationConfig

from alignlab.models.attention import keep_soft_cap
from alignlab.models.probe import cut_layers
from alignlab.models.weight_files import open_safetensors, reading

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredWeights:
    """Weights of a model in safetensors files, read by name and rows."""

    files: Mapping[str, Path]
    """File of each weight; a weight that is tied to another has the other's."""
    keys: Mapping[str, str]
    """Name of each weight in its file."""

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Read rows [start, stop) of a weight in the type of its file; all by default."""
        with safe_open(self.files[name], framework="pt") as file:
            found: Tensor = file.get_slice(self.keys[name])[start:stop]
        return found


class Deferred(NamedTuple):
    """Model on the meta device, with the files of its weights."""

    model: Any
    weights: StoredWeights


def deferred_model(
    folder: Path, model_class: Any, dtype: torch.dtype, trust_remote_code: bool = False
) -> Deferred | str:
    """Build a folder's model on the meta device; its buffers are real.

    Returns:
        The model, or the reason why its weights have to be read whole: files that name the weights
        otherwise than the model does, as transformers converts them on loading.
    """
    with reading("a decoder in Hugging Face format with safetensors weights", folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        with init_empty_weights(include_buffers=False):
            model = model_class.from_config(
                config, dtype=dtype, trust_remote_code=trust_remote_code
            )
        model.tie_weights()
        if model.can_generate() and (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        held = _shapes(folder)
    keep_soft_cap(model)
    first = {id(p): name for name, p in model.named_parameters()}
    keys, files = {}, {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        key = first[id(parameter)] if name not in held else name
        file, shape = held.get(key, (folder, ()))
        if shape != tuple(parameter.shape):
            return f"{folder.name}: expected {key} of shape {tuple(parameter.shape)}, found {shape}"
        keys[name], files[name] = key, file
    if buffers := [n for n in model.state_dict() if n not in keys]:
        return f"{folder.name}: {buffers[0]} is a stored buffer"
    return Deferred(model, StoredWeights(files, keys))


def first_layers_read(model: Any, weights: StoredWeights, device: Any) -> Any:
    """Return the first layers of a model on the meta device with their weights, for a probe.

    Args:
        model: a transformers model, which stays as it is.
        weights: files of its weights.
        device: device of the layers.
    """
    found = copy.deepcopy(model)
    cut_layers(found)
    made: dict[int, torch.nn.Parameter] = {}
    for name, parameter in found.named_parameters():
        if parameter.is_meta:
            rows = weights.rows(plain_name(name)).to(device, parameter.dtype)
            made[id(parameter)] = torch.nn.Parameter(rows, parameter.requires_grad)
    exchange(found, made)
    return found.to(device)


def plain_name(name: str) -> str:
    """Return a parameter's name without the level that peft adds to an adapted layer's weight."""
    return name.replace(".base_layer.", ".")


@contextmanager
def placeholders(model: Any, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Put zeros on the CPU, which take no memory, in the place of parameters on the meta device.

    Inside the block peft attaches an adapter as it does to weights in memory. Afterwards the
    parameters are back, frozen where the block froze their placeholders.

    Args:
        model: the model.
        dtype: type of the zeros, which then stand in the place of all parameters.
    """
    held: dict[int, torch.nn.Parameter] = {}
    for parameter in model.parameters():
        if parameter.is_meta or dtype is not None:
            zeros = torch.zeros((), dtype=dtype or parameter.dtype).expand(parameter.shape)
            held[id(parameter)] = torch.nn.Parameter(zeros, parameter.requires_grad)
    back = {id(held[id(p)]): p for p in model.parameters() if id(p) in held}
    exchange(model, held)
    yield
    for parameter in held.values():
        back[id(parameter)].requires_grad_(parameter.requires_grad)
    exchange(model, back)


def exchange(model: Any, made: Mapping[int, torch.nn.Parameter]) -> None:
    """Set parameters of all modules, by the identity of those that they replace."""
    for module in model.modules():
        for key, parameter in module._parameters.items():
            if id(parameter) in made:
                module._parameters[key] = made[id(parameter)]


def _shapes(folder: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """Return file and shape of every tensor in a folder's safetensors files."""
    found: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with open_safetensors(path) as file:
            for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                found[name] = path, tuple(file.get_slice(name).get_shape())
    return found
