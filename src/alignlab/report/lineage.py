"""Trace a model's trainings through run directories, back to its base model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from alignlab.errors import BadInput
from alignlab.report.run_data import RunData, read_run
from alignlab.run_models import RunModel, final_model, is_run, models_of
from alignlab.runs import slug
from alignlab.types import Count


@dataclass(frozen=True)
class TrainingStep:
    """One training, as its stage in a run recorded it."""

    name: str
    """Name of the model in the figures of its run."""
    made: str
    """Objective, or the study's sentence on the model."""
    data: str
    """Spec of the data."""
    settings: Mapping[str, Any]
    """Settings of the stage: objective, config, lengths."""
    steps: int | None
    best_step: int | None
    """Step of the saved weights, selected by validation; None if it is the last."""
    tokens: int
    """Tokens trained on; 0 where they were not counted."""
    counts: tuple[Count, ...]
    """Records kept, changed and dropped."""
    seed: str
    run: RunData


@dataclass(frozen=True)
class Lineage:
    """Base model of a model, and the trainings since."""

    base: str
    """Spec of the base model; empty where no run tells."""
    steps: tuple[TrainingStep, ...] = ()
    """Trainings, in order; the last one made the model."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the last run."""


def lineage_of(folder: Path) -> Lineage:
    """Trace a model's folder through the run directory that it lies in, and those before.

    Raises:
        BadInput: a run directory that is damaged.
    """
    run = next((parent for parent in folder.resolve().parents if is_run(parent)), None)
    if run is None:
        return Lineage("")
    data = read_run(run)
    known = {model.folder.resolve(): model for model in models_of(run)}
    model = known.get(folder.resolve())
    if model is None:
        return Lineage("")
    config = _yaml(data.config)
    chain = _chain(model, list(known.values()))
    steps = tuple(_step(one, data, config) for one in chain if one.name != "merged")
    before = _before(str(config.get("model", "")))
    return Lineage(before.base, before.steps + steps, config)


def _before(spec: str) -> Lineage:
    """Return the lineage of the model that a run started from."""
    path = Path(spec)
    if not path.is_dir():
        return Lineage(spec)
    try:
        found = lineage_of(final_model(path) if is_run(path) else path)
    except BadInput:  # it was another model when this run started from it
        return Lineage(spec)
    return found if found.base else Lineage(spec)


def _chain(model: RunModel, models: list[RunModel]) -> list[RunModel]:
    """Return the models of a run from the first to this one, each the parent of the next."""
    chain = [model]
    while chain[0].parent:
        parents = [
            m
            for m in models
            if slug(m.name.rpartition("/")[2]) == slug(chain[0].parent) and m not in chain
        ]
        same = [m for m in parents if m.name.split("/")[0] == chain[0].name.split("/")[0]]
        if not parents:
            break
        chain.insert(0, (same or parents)[0])
    return chain


def _step(model: RunModel, run: RunData, config: Mapping[str, Any]) -> TrainingStep:
    stage = model.folder.parent
    short = model.name.rpartition("/")[2]
    names = [name for name in run.study.models if slug(name) == short]
    name = names[0] if names else short
    trained = _json_lines(stage / "trained.jsonl")
    summary = trained[-1] if trained else {}
    path = "/".join(stage.relative_to(run.path / "stages").parts)
    usage = next((s.usage.tokens for s in run.stages if s.path == path), 0)
    first = model.name.partition("/")[0]
    return TrainingStep(
        name=name,
        made=run.study.models.get(name) or str(config.get("learns", "")),
        data=str(config.get("data", "")),
        settings=_json(stage / "config.json").get("config") or {},
        steps=summary.get("steps"),
        best_step=summary.get("best_step"),
        tokens=usage,
        counts=tuple(run.counts.get(path, ())),
        seed=first.removeprefix("seed-") if first.startswith("seed-") else _seed(run),
        run=run,
    )


def _seed(run: RunData) -> str:
    return str(run.manifest.seeds[0]) if run.manifest.seeds else ""


def _yaml(text: str) -> dict[str, Any]:
    with suppress(yaml.YAMLError):
        found = yaml.safe_load(text)
        return found if isinstance(found, dict) else {}
    return {}


def _json(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _json_lines(file: Path) -> list[dict[str, Any]]:
    with suppress(OSError, ValueError):
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return []
