"""checkpoint-N folders: weights, optimiser and progress, written all or nothing.

There is no random state to save: every draw comes from (seed, step).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from alignlab.errors import BadInput
from alignlab.models.load import LanguageModel, replace_folder, save
from alignlab.training.precision import Weights

STATE = "training_state"
"""Stem of the two files that a resumed run reads."""


@dataclass
class Progress:
    """Where a run is."""

    run: str
    """Hash of configuration, objective, data and first weights."""
    step: int = 0
    """Optimiser steps done."""
    tokens: int = 0
    """Stream tokens trained on."""
    lines: int = 0
    """Lines of metrics.jsonl."""
    best_step: int | None = None
    best_value: float | None = None
    window: dict[str, list[float]] = field(default_factory=dict)
    """Sums of metrics since the last line."""


def newest(out: Path) -> Path | None:
    """The last complete checkpoint of a run."""
    found = [p for p in out.glob("checkpoint-*") if (p / f"{STATE}.json").is_file()]
    numbered = [p for p in found if p.name.removeprefix("checkpoint-").isdigit()]
    return max(numbered, key=_step, default=None)


def write(
    lm: LanguageModel,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    out: Path,
    *,
    keep: int,
) -> Path:
    """Write checkpoint-N for the step done, and delete all but the newest `keep`.

    The folder is also a model (or adapter) in Hugging Face format.
    """
    path = out / f"checkpoint-{progress.step}"
    partial = path.with_name(path.name + ".partial")
    adapter = hasattr(lm.model, "merge_and_unload")
    save(lm, partial, adapter_only=adapter)
    tensors = {
        f"weight.{n}": m.detach() for n, m in zip(weights.names, weights.masters, strict=True)
    }
    for i, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{i}.{key}"] = value
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial / f"{STATE}.safetensors")
    (partial / f"{STATE}.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    replace_folder(partial, path)
    for old in sorted(out.glob("checkpoint-*[0-9]"), key=_step)[:-keep]:
        shutil.rmtree(old)
    return path


def read(path: Path, weights: Weights, optimizer: torch.optim.Optimizer, run: str) -> Progress:
    """Set weights and optimiser to a checkpoint's.

    Raises:
        BadInput: the checkpoint is of another run (other settings, data or first weights).
    """
    progress = Progress(**json.loads((path / f"{STATE}.json").read_text(encoding="utf-8")))
    if progress.run != run:
        raise BadInput(
            f"{path}: expected a checkpoint of this run, found one with other settings, data or "
            f"first weights; give another output folder, or delete it"
        )
    tensors = load_file(path / f"{STATE}.safetensors")
    weights.load({k[7:]: v for k, v in tensors.items() if k.startswith("weight.")})
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".", 2)
            states.setdefault(int(i), {})[key] = value
    plain: dict[str, Any] = optimizer.state_dict()
    optimizer.load_state_dict({"state": states, "param_groups": plain["param_groups"]})
    return progress


def _step(path: Path) -> int:
    return int(path.name.rsplit("-", 1)[1])
