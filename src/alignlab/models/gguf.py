"""Convert GGUF files to folders in Hugging Face format, once per content.

transformers dequantises the weights; they are saved as safetensors in a cache whose folders are
named by the file's SHA-256: `$ALIGNLAB_CACHE`, else `$XDG_CACHE_HOME/alignlab`, else
`~/.cache/alignlab`. Quantised files become bfloat16, others keep the type of their matrices.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import Any

import torch

from alignlab.errors import BadInput
from alignlab.files import cache_folder, lock, make_folder, write_text
from alignlab.models.folders import replace_folder

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the conversion; a change converts every file again."""
_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Type of an unquantised tensor in a GGUF file -> floating type."""
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_WAIT_S = 3600.0
"""Seconds to wait for another process that converts the same file."""


def converted(file: Path) -> Path:
    """Return the folder of a GGUF file's model, converted unless the cache holds it.

    Raises:
        BadInput: the package `gguf` is missing, or the file is damaged, one of several parts, or
            of an architecture that transformers cannot read from GGUF.
    """
    if util.find_spec("gguf") is None:
        raise BadInput(
            f"{file}: GGUF files need the package gguf; install it with pip install "
            "'alignlab[gguf]'"
        )
    if _SPLIT.search(file.name):
        raise BadInput(
            f"{file}: expected a whole GGUF file, found one of several parts; join them with "
            "llama-gguf-split --merge"
        )
    state = file.stat()
    folder = cache() / f"gguf-{FORMAT}-{_digest(file, state.st_size, state.st_mtime_ns)[:16]}"
    if not (folder / "config.json").is_file():
        make_folder(folder.parent)
        held = lock(folder.with_suffix(".lock"), f"{file}: another process converts it", _WAIT_S)
        try:
            if not (folder / "config.json").is_file():
                _convert(file, folder)
        finally:
            os.close(held)
    return folder


def cache() -> Path:
    """Return the folder of converted models."""
    return cache_folder() / "models"


@lru_cache(maxsize=64)
def _digest(file: Path, size: int, modified: int) -> str:
    """Hash a file; size and time of change are the cache's key in this process."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _convert(file: Path, folder: Path) -> None:
    """Dequantise a file's weights and write them with configuration and tokenizer."""
    from transformers import AutoTokenizer

    facts = _read_facts(file)
    partial = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    log.warning("%s: converted once, to %s", file, folder)
    try:
        model = _read_model(file, facts)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_text(partial / "README.md", _card(file, facts))
        replace_folder(partial, folder)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise BadInput(
            f"{file}: expected a GGUF file of a decoder that transformers reads, found: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_model(file: Path, facts: dict[str, Any]) -> Any:
    """Read a dequantised decoder.

    Raises:
        ValueError: the file lacks weights of its architecture.
    """
    import transformers
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"gguf_file": file.name, "dtype": facts["dtype"]}
    if hasattr(transformers, "GgufConfig"):  # before 5.17 every GGUF file was dequantised
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    # A pair with `output_loading_info`, which its types do not know.
    read: Any = AutoModelForCausalLM.from_pretrained(
        file.parent, output_loading_info=True, **options
    )
    model, loaded = read
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise ValueError(f"no weights for {', '.join(missing[:3])}")
    # A dense model now, which transformers still takes for a quantised one.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    return model


def _read_facts(file: Path) -> dict[str, Any]:
    """Read a file's name, licence and type of weights.

    Raises:
        BadInput: not a GGUF file, or a damaged one.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        fields = {
            name: str(reader.fields[f"general.{name}"].contents())
            for name in ("name", "license", "architecture", "basename")
            if f"general.{name}" in reader.fields
        }
        types = {t.tensor_type.name for t in reader.tensors if len(t.shape) > 1}
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        raise BadInput(
            f"{file}: expected a GGUF file, found: {' '.join(str(error).split())[:200]}"
        ) from error
    if not types:
        raise BadInput(f"{file}: expected a GGUF file with weights, found none")
    (kind,) = types if len(types) == 1 else ("",)
    return {**fields, "types": sorted(types), "dtype": _PLAIN.get(kind, torch.bfloat16)}


def _card(file: Path, facts: dict[str, Any]) -> str:
    """Return a README with the licence that the file names."""
    head = [f"license: {facts['license']}"] if "license" in facts else []
    lines = ["---", *head, "---", "", f"# {facts.get('name', file.stem)}", ""]
    lines += [f"Converted from {file.name} ({', '.join(facts['types'])}) by alignlab.", ""]
    return "\n".join(lines)
