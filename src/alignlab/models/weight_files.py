"""Read a model's files: a damaged file or a weight that none holds is refused, never made up."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from alignlab.errors import BadInput, bad_record, expecting
from alignlab.files import refuse_pointer

SETTINGS = ("config.json", "generation_config.json", "model.safetensors.index.json")
"""JSON files of a model without its tokenizer."""

log = logging.getLogger(__name__)


@contextmanager
def open_safetensors(file: Path) -> Iterator[Any]:
    """Open a safetensors file.

    Raises:
        BadInput: the pointer of Git LFS, or a file that is not complete.
    """
    refuse_pointer(file)
    try:
        handle = safe_open(file, framework="pt")
    except SafetensorError as error:
        raise bad_record(file, None, None, "a complete safetensors file", str(error)) from None
    with handle as weights:
        yield weights


def read_model_settings(file: Path) -> dict[str, Any]:
    """Read one of the JSON files of a model's or an adapter's settings.

    Raises:
        BadInput: it is not JSON, or no object.
    """
    refuse_pointer(file)
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise BadInput(f"{file}: expected JSON, found {error}") from None
    if not isinstance(found, dict):
        raise bad_record(file, None, None, "an object", found)
    return found


def read_whole_model(model_class: Any, folder: Path, **options: Any) -> Any:
    """Read a model of transformers from safetensors files, which must hold every weight.

    Args:
        model_class: class of transformers, or a stand-in, with `from_pretrained`.
        folder: folder of the model.
        options: further arguments of `from_pretrained`.

    Raises:
        BadInput: a damaged file, a missing weight, or one of another shape.
        OSError, ValueError, KeyError: transformers cannot read the model.
    """
    for file in sorted(folder.glob("*.safetensors")):
        with open_safetensors(file):
            pass
    model, found = model_class.from_pretrained(
        folder,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    further = sorted(found["unexpected_keys"])
    if missing := sorted(found["missing_keys"]):
        others = f", and {_some(further)} that it has no place for" if further else ""
        raise BadInput(
            f"{folder}: expected all weights of {type(model).__name__}, found none for "
            f"{_some(missing)}{others}"
        )
    if other := sorted(found["mismatched_keys"]):
        name, stored, own = other[0]
        raise BadInput(
            f"{folder}: expected {name} of shape {tuple(own)}, found {tuple(stored)}"
            + (f" (and {len(other) - 1} more)" if other[1:] else "")
        )
    if further:
        log.warning(
            "%s: %s has no place for %s, not read", folder, type(model).__name__, _some(further)
        )
    return model


def first_not_finite(model: Any) -> str | None:
    """Return the name of a model's first weight that holds NaN or an infinity; None without."""
    for name, weight in model.named_parameters():
        if not weight.is_meta and weight.is_floating_point() and not weight.isfinite().all():
            return str(name)
    return None


@contextmanager
def reading(expected: str, folder: Path, files: Sequence[str] = SETTINGS) -> Iterator[None]:
    """Turn errors of transformers on reading a folder into one line of `BadInput`.

    Args:
        expected: noun for the message.
        folder: folder of the model.
        files: names of JSON files that must be whole where they are there.
    """
    for file in (folder / name for name in files):
        if file.is_file():
            read_model_settings(file)
    with expecting(expected, folder):
        yield


def _some(names: Collection[str]) -> str:
    first = next(iter(names))
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
