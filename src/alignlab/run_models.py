"""Find the trained models of a run directory, and the one that it ends with."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput
from alignlab.files import read_json
from alignlab.redo import events, order, stage_name

MODEL_FILES = ("config.json", "adapter_config.json")
"""Files of which a model's folder holds one: of a whole model, or of an adapter."""
_SHOWN = 6
"""Largest number of choices named in a refusal."""
_BASELINE = "sft-baseline"
"""Stage of a study's baseline, on which nothing is built."""


@dataclass(frozen=True)
class RunModel:
    """Trained model of a run."""

    name: str
    """Scopes and name of its stage, without the stage's number: iteration-1/m2."""
    folder: Path
    parent: str
    """Name of the model that its training started from; empty where unknown."""

    @property
    def scope(self) -> str:
        """Scopes of its stage; empty at the top."""
        return self.name.rpartition("/")[0]


def is_run(folder: Path) -> bool:
    """Return True for a run directory."""
    return (folder / "manifest.json").is_file() and (folder / "stages").is_dir()


def models_of(run: Path) -> list[RunModel]:
    """List the finished models of a run, in the order of their training."""
    stages = run / "stages"
    place = {name: number for number, name in enumerate(order(run))}
    # Not by the files' times: a repaired model is younger than those that came after it.
    folders = sorted(
        {file.parent for file in stages.rglob("model/*config.json") if file.name in MODEL_FILES},
        key=lambda folder: place.get(stage_name(run, folder.parent), len(place)),
    )
    return [_described(stages, folder) for folder in folders]


def final_model(run: Path) -> Path:
    """Return the folder of the model that a run ends with.

    A training ends with its model (the best one under validation); a study with the one model
    that no other was trained from, its SFT baseline aside.

    Raises:
        BadInput: the run has no model yet, is not finished, or ends with several.
    """
    found = models_of(run)
    if not found:
        raise BadInput(f"{run}: expected a run with a trained model, found none")
    if _recipe(run) == "train":
        trained = [m for m in found if m.name == "model"]
        if trained:
            return trained[0].folder
        raise BadInput(f"{run}: its training is not finished; repeat its command")
    if not any(e.get("event") == "done" and "stage" not in e for e in events(run)):
        raise BadInput(f"{run}: the run is not finished; repeat its command, or {_choices(found)}")
    last = [m for m in found if not _is_parent(m, found) and not m.name.endswith(_BASELINE)]
    if len(last) != 1:
        raise BadInput(
            f"{run}: expected a run with one final model, found {len(last)}; "
            f"{_choices(last or found)}"
        )
    return last[0].folder


def _is_parent(model: RunModel, models: list[RunModel]) -> bool:
    """Return True where another model of the same scopes was trained from this one."""
    name = _slug(model.name.rpartition("/")[2])
    return any(name == _slug(m.parent) and m.scope.startswith(_seed(model.scope)) for m in models)


def _seed(scope: str) -> str:
    """Return the scope of a seed at the start of a scope; empty where there is none."""
    first = scope.partition("/")[0]
    return first if first.startswith("seed-") else ""


def _slug(name: str) -> str:
    from alignlab.runs import slug

    return slug(name)


def _described(stages: Path, folder: Path) -> RunModel:
    parts = folder.parent.relative_to(stages).parts
    name = "/".join((*parts[:-1], parts[-1].partition("-")[2]))
    settings: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        settings = read_json(folder.parent / "config.json")
    inputs = settings.get("inputs") or {}
    return RunModel(name, folder, str(inputs.get("parent", "")))


def _recipe(run: Path) -> str:
    with suppress(OSError, ValueError):
        return str(read_json(run / "manifest.json").get("recipe", ""))
    return ""


def _choices(models: list[RunModel]) -> str:
    named = ", ".join(str(model.folder) for model in models[:_SHOWN])
    more = f" and {len(models) - _SHOWN} more" if len(models) > _SHOWN else ""
    return f"name one: {named}{more}"
