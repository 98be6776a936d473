"""Sandbox: an offline world where the true quality of every answer is known.

`world` holds the facts, `questions` the prompts, `answers` writes answers with noise, `oracle`
scores any text. `teachers`, `corpus` and `oracle` register an engine, a data source and a feedback
source, all named "sandbox".
"""

from __future__ import annotations

from pathlib import Path

from alignlab.errors import unknown_name
from alignlab.registry import register

_CHECKPOINTS = Path(__file__).parent / "checkpoints"


@register("model", "sandbox")
def checkpoint_path(name: str) -> Path:
    """Return the folder of a base model of the package.

    Raises:
        BadInput: the name is unknown.
    """
    known = [folder.name for folder in _CHECKPOINTS.iterdir() if (folder / "config.json").exists()]
    if name not in known:
        raise unknown_name("sandbox checkpoint", name, known)
    return _CHECKPOINTS / name
