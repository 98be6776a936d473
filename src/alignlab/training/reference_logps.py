"""Log-probabilities of the reference, computed once and cached on disk by content.

The cache's file is named by a hash of the weights in memory and the compute type; an entry by a
hash of its tokens. So an entry cannot be stale, whatever the model is called.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import Scorer, TokenLogps
from alignlab.training.budget import TokenBudget


def weights_hash(model: Any) -> str:
    """Hash (16 hex digits) of a model's parameters as they are in memory."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def group_hash(group: TokenGroup) -> str:
    """Hash (16 hex digits) of a group's tokens."""
    return hashlib.sha256(repr((group.prompt_T, group.responses)).encode()).hexdigest()[:16]


def reference_logps(
    scorer: Scorer[TokenLogps], groups: Sequence[TokenGroup], file: Path, budget: TokenBudget
) -> list[tuple[float, ...]]:
    """Log-probabilities in nats of each group's responses; computed where the file lacks them.

    Args:
        scorer: the reference, as it computes.
        groups: prompts with responses.
        file: the cache, one JSON line per group; its name must identify the weights.
        budget: of a forward pass; its processes share the work, and the leader the file.
    """
    known = budget.world.broadcast_from_main(lambda: _read(file))
    keys = [group_hash(group) for group in groups]
    missing = {key: g for key, g in zip(keys, groups, strict=True) if key not in known}
    if missing:
        scored = budget.score(scorer, list(missing.values()))
        known.update(zip(missing, scored, strict=True))
        if budget.world.is_main:
            _write(file, known)
    return [known[key] for key in keys]


def _write(file: Path, known: dict[str, tuple[float, ...]]) -> None:
    """Replace the cache in one step.

    Were a part of it left by a kill, the rest would be computed in other batches, whose rounding
    differs, and the resumed run would not end with the same weights.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    lines = (json.dumps({"group": key, "logps": sums}) for key, sums in known.items())
    partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    partial.replace(file)


def _read(file: Path) -> dict[str, tuple[float, ...]]:
    known: dict[str, tuple[float, ...]] = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line that a killed run left half written
            known[entry["group"]] = tuple(entry["logps"])
    return known
