"""Find the newest whole checkpoint of a training, and what is wrong with the others.

A checkpoint's training_state.json holds the SHA-256 of the files that a resume reads, the lengths
of the logs that it continues, and its own. Checkpoints of earlier versions have none of them: their
weights must have the length that their head states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from alignlab.files import file_digest
from alignlab.whole_files import read_mapping, seal, torn

STATE = "training_state"
"""Stem of the two files of a training's state."""
BEST = "best"
"""Stem of the file, or name of the folder of shards, of the best weights by validation."""
LOGS = ("metrics.jsonl", "rollout_samples.jsonl")
"""Files that a training writes line by line."""


class CheckpointDamage(NamedTuple):
    """Damaged checkpoint."""

    file: Path
    problem: str
    """Expected and found."""

    def __str__(self) -> str:
        return f"{self.file}: expected {self.problem}"


class Newest(NamedTuple):
    """Newest whole checkpoint, and damaged ones that are newer."""

    path: Path | None
    damaged: tuple[CheckpointDamage, ...]


def newest_whole(out: Path) -> Newest:
    """Return the newest checkpoint from which a training can resume; None where there is none."""
    damaged: list[CheckpointDamage] = []
    for folder in sorted(_numbered(out), key=step_of, reverse=True):
        damage = damage_of(folder)
        if damage is None:
            return Newest(folder, tuple(damaged))
        damaged.append(damage)
    return Newest(None, tuple(damaged))


def damage_of(folder: Path) -> CheckpointDamage | None:
    """Return what is wrong with a checkpoint; None where a training can resume from it."""
    state, problem = read_mapping(folder / f"{STATE}.json")
    if not problem and "sha256" in state and seal(state) != state:
        problem = "the state that was written, found another content"
    if problem:
        return CheckpointDamage(folder / f"{STATE}.json", problem)
    for name, digest in state.get("files", {}).items():
        if damage := _other_content(folder / name, digest):
            return damage
    for file in _weights(folder):
        if fault := torn(file):
            return CheckpointDamage(file, fault[1])
    if not _weights(folder):
        file = folder / f"{STATE}.safetensors"
        return CheckpointDamage(file, "weights and the optimiser's state, found no file")
    for name, length in state.get("logs", {}).items():
        log = folder.parent / name
        found = log.stat().st_size if log.is_file() else 0
        if found < length:
            problem = f"{length} bytes, as at step {state.get('step')}, found {found}"
            return CheckpointDamage(log, problem)
    return None if state.get("best_step") is None else _damage_of_best(folder.parent)


def sealed(folder: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a checkpoint with the hashes of its files and the lengths of the logs."""
    files = {file.name: file_digest(file) for file in _weights(folder)}
    logs = {n: (folder.parent / n).stat().st_size for n in LOGS if (folder.parent / n).is_file()}
    return seal({**state, "files": files, "logs": logs})


def step_of(checkpoint: Path) -> int:
    """Return the step in the name of a checkpoint's folder."""
    return int(checkpoint.name.rsplit("-", 1)[1])


def _numbered(out: Path) -> Iterator[Path]:
    for folder in out.glob("checkpoint-*"):
        if folder.name.removeprefix("checkpoint-").isdigit() and any(folder.iterdir()):
            yield folder


def _weights(folder: Path) -> list[Path]:
    """Return the files of a state's weights: one, or shards."""
    whole = folder / f"{STATE}.safetensors"
    if whole.is_file():
        return [whole]
    return sorted(folder.glob("shard-*.safetensors"))


def _damage_of_best(out: Path) -> CheckpointDamage | None:
    """Return what is wrong with the best weights by validation."""
    whole = out / f"{BEST}.safetensors"
    files = sorted((out / BEST).glob("*.safetensors")) if (out / BEST).is_dir() else [whole]
    for file in files:
        if not file.is_file():
            return CheckpointDamage(file, "the best weights by validation, found no file")
        if fault := torn(file):
            return CheckpointDamage(file, fault[1])
    return None


def _other_content(file: Path, digest: str) -> CheckpointDamage | None:
    if not file.is_file():
        return CheckpointDamage(file, "weights and the optimiser's state, found no file")
    if fault := torn(file):
        return CheckpointDamage(file, fault[1])
    if file_digest(file) != digest:
        return CheckpointDamage(file, "the content that was written, found another")
    return None
