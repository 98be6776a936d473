"""Write and read checkpoint-N folders: weights, optimiser and progress.

Random states are not saved: every draw derives from (seed, step). Files hold whole tensors, or
shards with their places (`shard_files.py`), which are written in the background. Either is read by
any number of processes, each its own part.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from alignlab.checkpoint_files import BEST, STATE, Newest, newest_whole, sealed, step_of
from alignlab.errors import BadInput
from alignlab.files import read_json, write_json
from alignlab.models.adapters import is_adapted
from alignlab.models.load import LanguageModel, replace_folder, save
from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext
from alignlab.training.precision import Weights

if TYPE_CHECKING:
    from alignlab.training.shard_files import BackgroundSaves


@dataclass
class Progress:
    """Progress of a run."""

    run: str
    """Hash of configuration, objective, data and initial weights."""
    step: int = 0
    """Optimiser steps done."""
    tokens: int = 0
    """Stream tokens trained on."""
    lines: int = 0
    """Lines of metrics.jsonl."""
    best_step: int | None = None
    """Step with the best validation value."""
    best_value: float | None = None
    """Best validation value."""
    best_scores: dict[str, float] = field(default_factory=dict)
    """Validation prompt id -> its score at `best_step`."""
    window: dict[str, list[float]] = field(default_factory=dict)
    """Name -> sum and weight of a metric since the last line."""
    carried: dict[str, float] = field(default_factory=dict)
    """State of rollout training between batches."""


def newest(out: Path) -> Newest:
    """Return the newest checkpoint from which a run can resume, and damaged ones after it.

    Raises:
        BadInput: there are checkpoints, and all are damaged.
    """
    found = newest_whole(out)
    if found.path is None and found.damaged:
        raise BadInput(
            f"{found.damaged[0]}; no earlier checkpoint is whole: delete {out}/checkpoint-* to "
            f"train from the start"
        )
    return found


def write(
    lm: LanguageModel,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    out: Path,
    *,
    keep: int,
    world: DistributedContext = SINGLE_PROCESS,
) -> None:
    """Write checkpoint-N of the current step, atomically, and delete all but the newest `keep`.

    The folder is also a model (or adapter) in Hugging Face format.
    """
    tensors = {f"weight.{name}": value for name, value in weights.values().items()}
    tensors |= _optimizer_values(weights, optimizer)
    if not world.is_main:
        return
    path = out / f"checkpoint-{progress.step}"
    partial = path.with_name(path.name + ".partial")
    save(lm, partial, adapter_only=is_adapted(lm.model))
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial / f"{STATE}.safetensors")
    write_json(partial / f"{STATE}.json", sealed(partial, asdict(progress)))
    replace_folder(partial, path)
    _drop_old(out, keep)


def write_shards(
    saves: BackgroundSaves,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    out: Path,
    *,
    keep: int,
) -> None:
    """Write checkpoint-N of the current step in the background, each process its shards.

    The folder gets its name when it is whole; then all but the newest `keep` are deleted.
    """
    path, state = out / f"checkpoint-{progress.step}", asdict(progress)
    partial = path.with_name(path.name + ".partial")

    def finish() -> None:
        write_json(partial / f"{STATE}.json", sealed(partial, state))
        replace_folder(partial, path)
        _drop_old(out, keep)

    tensors = _weight_parts(weights)
    order = _indices(weights, optimizer)
    for i, found in optimizer.state_dict()["state"].items():
        for key, value in found.items():
            if not value.ndim:  # steps are equal in all processes
                tensors |= {f"optimizer.{i}.{key}": value.reshape(1)} if saves.is_main else {}
            elif value.numel():
                tensors[f"optimizer.{i}.{key}"] = weights.placed(order[i], value)
    saves.start(tensors, partial, finish)


def write_best(
    saves: BackgroundSaves | None, weights: Weights, out: Path, world: DistributedContext
) -> None:
    """Keep the current weights as the best by validation; shards are written in the background."""
    if saves is None:
        values = weights.values()
        if world.is_main:
            shutil.rmtree(out / BEST, ignore_errors=True)
            partial = out / f"{BEST}.partial"
            save_file({name: value.contiguous() for name, value in values.items()}, partial)
            partial.replace(out / f"{BEST}.safetensors")
        return

    def finish() -> None:
        replace_folder(out / f"{BEST}.partial", out / BEST)
        (out / f"{BEST}.safetensors").unlink(missing_ok=True)

    saves.start(_weight_parts(weights), out / f"{BEST}.partial", finish)


def read_best(weights: Weights, out: Path) -> None:
    """Load the best weights by validation."""
    if (out / BEST).is_dir():
        weights.load_parts(_read_parts(out / BEST, weights))
        return
    with safe_open(out / f"{BEST}.safetensors", framework="pt") as file:
        weights.load(_Named(file, ""))


def _drop_old(out: Path, keep: int) -> None:
    """Delete all but the newest checkpoints."""
    for old in sorted(out.glob("checkpoint-*[0-9]"), key=step_of)[:-keep]:
        shutil.rmtree(old)


def _weight_parts(weights: Weights) -> dict[str, Tensor]:
    """Return this process's parts of the weights, by name in files."""
    named = zip(weights.names, weights.masters, strict=True)
    return {
        f"weight.{name}": weights.placed(i, master)
        for i, (name, master) in enumerate(named)
        if master.numel()
    }


def _read_parts(folder: Path, weights: Weights) -> dict[str, Tensor]:
    """Read this process's parts of the weights from a folder of shards."""
    from alignlab.training import shard_files

    masters = zip(weights.names, weights.masters, strict=True)
    parts = {name: torch.empty_like(master) for name, master in masters}
    named = {f"weight.{name}": (i, part) for i, (name, part) in enumerate(parts.items())}
    shard_files.read(
        folder, {n: weights.placed(i, part) for n, (i, part) in named.items() if part.numel()}
    )
    return parts


def read(path: Path, weights: Weights, optimizer: torch.optim.Optimizer, run: str) -> Progress:
    """Load weights and optimiser from a checkpoint; every process reads the file.

    Raises:
        BadInput: the checkpoint is of another run (other settings, data or initial weights).
    """
    state = read_json(path / f"{STATE}.json")
    progress = Progress(**{f.name: state[f.name] for f in fields(Progress) if f.name in state})
    if progress.run != run:
        raise BadInput(
            f"{path}: expected a checkpoint of this run, found one with other settings, data or "
            f"first weights; give another output folder, or delete it"
        )
    order = _indices(weights, optimizer)
    states: dict[int, dict[str, Tensor]] = {}
    if not (path / f"{STATE}.safetensors").is_file():
        weights.load_parts(_read_parts(path, weights))
        states = _read_optimizer(path, weights, order)
        param_groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states, "param_groups": param_groups})
        return progress
    # One tensor at a time: with sharded weights a process may have memory for its shards alone.
    with safe_open(path / f"{STATE}.safetensors", framework="pt") as file:
        weights.load(_Named(file))
        for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            if name.startswith("optimizer."):
                _, i, key = name.split(".", 2)
                value = file.get_tensor(name)
                part = weights.part(order[int(i)], value) if value.ndim else value
                states.setdefault(int(i), {})[key] = part
    param_groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": param_groups})
    return progress


def _read_optimizer(
    path: Path, weights: Weights, order: Sequence[int]
) -> dict[int, dict[str, Tensor]]:
    """Read this process's parts of the optimiser's states from a folder of shards."""
    from alignlab.training import shard_files

    states: dict[int, dict[str, Tensor]] = {}
    into: dict[str, Tensor] = {}
    for name in shard_files.shapes(path):
        if not name.startswith("optimizer."):
            continue
        _, i, key = name.split(".", 2)
        master = weights.masters[order[int(i)]]
        part = torch.empty(1) if key == "step" else torch.empty_like(master, requires_grad=False)
        states.setdefault(int(i), {})[key] = part.squeeze() if key == "step" else part
        if part.numel():
            into[name] = part if key == "step" else weights.placed(order[int(i)], part)
    shard_files.read(path, into)
    return states


class _Named(Mapping[str, Tensor]):
    """Weights in a checkpoint's file by name, each read on access."""

    def __init__(self, file: Any, prefix: str = "weight.") -> None:
        self._file, self._prefix = file, prefix

    def __getitem__(self, name: str) -> Tensor:
        found: Tensor = self._file.get_tensor(self._prefix + name)
        return found

    def __iter__(self) -> Iterator[str]:
        start = self._prefix
        return (k[len(start) :] for k in self._file.keys() if k.startswith(start))  # noqa: SIM118

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _optimizer_values(weights: Weights, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's whole tensors by name; with shards, none on worker ranks."""
    order = _indices(weights, optimizer)
    found: dict[str, Tensor] = {}
    for i, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            whole = weights.whole(order[i], value) if value.ndim else value
            if whole is not None:
                found[f"optimizer.{i}.{key}"] = whole
    return found


def _indices(weights: Weights, optimizer: torch.optim.Optimizer) -> list[int]:
    """Return the index among the weights of each of the optimiser's parameters."""
    known = {id(master): i for i, master in enumerate(weights.masters)}
    return [known[id(p)] for group in optimizer.param_groups for p in group["params"]]
