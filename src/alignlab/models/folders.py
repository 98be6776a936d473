"""Hash, check and replace model folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput
from alignlab.models.weight_files import read_model_settings

ADAPTER = "adapter_config.json"
"""File of an adapter's settings, as peft writes it."""
BASE = "adapter_base.json"
"""File of an adapter's base model: its folder from the adapter's, its name, and its hash."""
_HASHED = (".safetensors", ".jinja", ".model")
_HASHED_NAMES = ("tokenizer.json", "vocab.json", "merges.txt")


def fingerprint(folder: str | Path, *, chat_template: str | None = None) -> str:
    """Hash a folder's weights, tokenizer and chat template; 16 hex digits.

    An adapter that names its base by a hash has the hash of both, wherever the base lies.

    Args:
        folder: model or adapter in Hugging Face format.
        chat_template: template in use, where it is not the folder's own.
    """
    folder = Path(folder)
    states = ((file, file.stat()) for file in sorted(folder.iterdir()) if _is_hashed(file))
    digest = _content(tuple((f, s.st_size, s.st_mtime_ns, s.st_ino) for f, s in states)).copy()
    for name in ("config.json", ADAPTER, "tokenizer_config.json"):
        if (folder / name).is_file():
            plain = read_model_settings(folder / name)
            plain.pop("transformers_version", None)
            if name == ADAPTER and (folder / BASE).is_file():
                known = read_model_settings(folder / BASE)
                plain["base_model_name_or_path"] = known["fingerprint"]
            digest.update(json.dumps(plain, sort_keys=True).encode())
    digest.update((chat_template or "").encode())
    found: str = digest.hexdigest()
    return found[:16]


def require_weights(folder: Path) -> None:
    """Refuse a folder without weights, such as one whose run has deleted them.

    Raises:
        BadInput: no safetensors file.
    """
    if not any(folder.glob("*.safetensors")):
        raise BadInput(f"{folder}: expected weights in safetensors files, found none")


def _is_hashed(file: Path) -> bool:
    return file.suffix in _HASHED or file.name in _HASHED_NAMES


@lru_cache(maxsize=64)
def _content(files: tuple[tuple[Path, int, int, int], ...]) -> Any:
    """Hash files by name and content, those of one size, time and inode once a process."""
    digest = hashlib.sha256()
    for file, *_ in files:
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest


def replace_folder(partial: Path, path: Path) -> None:
    """Replace a folder by a finished one, so that `path` never holds a part of it."""
    old = path.with_name(path.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(partial, path)
    shutil.rmtree(old, ignore_errors=True)
