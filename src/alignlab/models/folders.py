"""Hash and replace model folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

_HASHED = (".safetensors", ".jinja", ".model")
_HASHED_NAMES = ("tokenizer.json", "vocab.json", "merges.txt")


def fingerprint(folder: str | Path, *, chat_template: str | None = None) -> str:
    """Hash a folder's weights, tokenizer and chat template; 16 hex digits.

    Args:
        folder: model or adapter in Hugging Face format.
        chat_template: template in use, where it is not the folder's own.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _HASHED or file.name in _HASHED_NAMES:
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    for name in ("config.json", "adapter_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            plain = json.loads((folder / name).read_text(encoding="utf-8"))
            plain.pop("transformers_version", None)
            digest.update(json.dumps(plain, sort_keys=True).encode())
    digest.update((chat_template or "").encode())
    return digest.hexdigest()[:16]


def replace_folder(partial: Path, path: Path) -> None:
    """Replace a folder by a finished one, so that `path` never holds a part of it."""
    old = path.with_name(path.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(partial, path)
    shutil.rmtree(old, ignore_errors=True)
