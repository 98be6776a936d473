"""Compute log-probabilities of the reference once, and cache them on disk by content.

The cache's file is named by a hash of the weights in memory and the compute type, an entry by a
hash of its tokens: entries cannot be stale.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignlab.models.dtypes import DTYPES
from alignlab.models.load import LanguageModel
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer, Scorer, TokenLogps
from alignlab.training.budget import TokenBudget
from alignlab.training.config import TrainConfig
from alignlab.training.distributed import DistributedContext

log = logging.getLogger(__name__)


def weights_hash(model: Any, read: Callable[[str], Tensor] | None = None) -> str:
    """Hash a model's parameters; 16 hex digits.

    Args:
        model: the model.
        read: reads the parameters that are on the meta device, one at a time, by name.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if read is not None and tensor.is_meta:
            tensor = read(name).to(tensor.dtype)
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def group_hash(group: TokenGroup) -> str:
    """Hash a group's tokens; 16 hex digits."""
    return hashlib.sha256(repr((group.prompt_T, group.responses)).encode()).hexdigest()[:16]


def reference_logps(
    scorer: Scorer[TokenLogps], groups: Sequence[TokenGroup], file: Path, budget: TokenBudget
) -> list[tuple[float, ...]]:
    """Return log-probabilities in nats of each group's responses, from the cache where it has them.

    Args:
        scorer: scorer of the reference.
        groups: prompts with responses.
        file: cache, one JSON line per group; its name must identify the weights.
        budget: token budget of a forward pass; its processes share the work, and the main rank
            reads and writes the file.
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
    """Replace the cache atomically.

    With a part of the cache after a kill, the rest would be computed in other batches with other
    rounding, and the resumed run would end with other weights.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    lines = (json.dumps({"group": key, "logps": sums}) for key, sums in known.items())
    partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    partial.replace(file)


def _read(file: Path) -> dict[str, tuple[float, ...]]:
    """Return the entries of the cache by group hash; none of a damaged one.

    Half a line at the end, which a kill leaves, is passed over.
    """
    known: dict[str, tuple[float, ...]] = {}
    if file.is_file():
        try:
            for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
                entry = json.loads(line)
                known[entry["group"]] = tuple(map(float, entry["logps"]))
        except (ValueError, KeyError, TypeError):
            log.warning("%s: damaged; the reference's log-probabilities are computed again", file)
            return {}
    return known


def frozen_reference(
    lm: LanguageModel, config: TrainConfig, world: DistributedContext
) -> ResponseScorer:
    """Return a scorer of a copy of the weights in the compute type, sharded as the policy is."""
    model = copy.deepcopy(lm.model).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(DTYPES[config.dtype])
    through = None
    if world.sharded:
        # Importing FSDP2 takes a second, which other trainings need not pay.
        from alignlab.training.shards import shared_out

        through = shared_out(model, world, lm.weights)
    padded_because = "dropout is on" if config.dropout else None
    return ResponseScorer(
        model, padded_because=padded_because, through=through, tokenizer=lm.tokenizer
    )
