"""The sandbox: an offline world where the true quality of every answer is known.

`world` holds the facts, `prompts` the questions, `answers` writes at a chosen level of noise,
`oracle` scores any text. `teachers`, `data` and `oracle` register themselves as an engine, a
data source and a feedback source, all called "sandbox". `checkpoint_path` finds the base models.
"""

from __future__ import annotations

from pathlib import Path

from alignlab.errors import unknown_name
from alignlab.registry import register

_CHECKPOINTS = Path(__file__).parent / "checkpoints"


@register("model", "sandbox")
def checkpoint_path(name: str) -> Path:
    """The folder of a base model that ships with the package.

    Raises:
        BadInput: no base model of that name.
    """
    known = [folder.name for folder in _CHECKPOINTS.iterdir() if (folder / "config.json").exists()]
    if name not in known:
        raise unknown_name("sandbox checkpoint", name, known)
    return _CHECKPOINTS / name
