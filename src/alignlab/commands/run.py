"""Run a recipe: settings, run directory, study, figures, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from alignlab import configs, registry
from alignlab.commands.early import make_parts
from alignlab.files import read_json, write_json
from alignlab.recipes.preset import preset_for
from alignlab.recipes.study import Recipe, StudyConfig
from alignlab.records import to_dict
from alignlab.report import write_report
from alignlab.runs import Run, RunIdentity
from alignlab.stages.lab import Lab
from alignlab.stages.results import results
from alignlab.training.ranks import main_process_only
from alignlab.types import Study


@main_process_only
def run(recipe: str, *overrides: str, config: str | Path | None = None, **settings: Any) -> Path:
    """Run a recipe, or resume it where it stopped; returns the report's path.

    Args:
        recipe: a name from `alignlab list recipes`.
        overrides: "key=value" strings, as on the command line.
        config: a YAML file of settings, under the overrides.
        settings: the same as overrides, nested mappings for nested settings.

    Raises:
        BadInput: unknown recipe or setting, bad data, bad model, or another run in `out`.
        RunFailed: the work could not be finished; the same call resumes.
    """
    known: Recipe = registry.get("recipe", recipe)
    chosen = assemble(known, config, overrides, settings)
    make_parts(known, chosen)
    out = Path(chosen.out or f"runs/{recipe}")
    seeds = tuple(range(chosen.seed, chosen.seed + chosen.seeds))
    study_run = Run.start(out, RunIdentity(recipe, _identity(chosen), seeds))
    try:
        study_run.describe(Study(recipe, known.question, known.baseline, known.models(chosen)))
        began = time.monotonic()
        template = chosen.chat_template or None
        lab = Lab(study_run, chosen.seed, chosen.hardware, template, chosen.track)
        torch.set_num_threads(lab.threads)
        measured = [known.study(_seed_lab(lab, seed, len(seeds)), chosen) for seed in seeds]
        results(lab, measured)
        study_run.finish()
        _add_wall_time(study_run, time.monotonic() - began)
        return write_report(out)
    finally:
        study_run.close()


def assemble(
    recipe: Recipe,
    file: str | Path | None,
    overrides: Sequence[str],
    settings: Mapping[str, Any],
) -> StudyConfig:
    """The recipe's settings: defaults, preset, YAML file, key=value, in rising order.

    Raises:
        BadInput: an unknown key or a value of the wrong type.
    """
    given: list[Mapping[str, Any]] = [configs.read_yaml(Path(file))] if file else []
    given += [configs.parse_overrides(overrides), settings]
    first = configs.build(recipe.config, *given)
    keys = {field.name for field in fields(recipe.config)}
    name, preset = preset_for(first.model, first.preset, first.objective.name, keys)
    chosen = configs.build(recipe.config, preset, *given)
    return replace(chosen, preset=name)


def _identity(config: StudyConfig) -> dict[str, Any]:
    """What must stay equal for a run to be resumed: not where it is, who watches, who works."""
    plain: dict[str, Any] = to_dict(config)
    plain.pop("out")
    plain.pop("track")
    for key in ("workers", "parallel"):
        plain["hardware"].pop(key)
    return plain


def _seed_lab(lab: Lab, seed: int, of: int) -> Lab:
    return replace(lab.scope(f"seed-{seed}") if of > 1 else lab, seed=seed)


def _add_wall_time(run_: Run, seconds: float) -> None:
    """Keep the time of every session that worked on this run."""
    manifest = read_json(run_.path / "manifest.json")
    manifest["wall_seconds"] = round(manifest.get("wall_seconds", 0.0) + seconds, 1)
    write_json(run_.path / "manifest.json", manifest)
