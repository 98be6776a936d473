"""Run a recipe: settings, plan, run directory, study, figures, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from alignlab import configs, registry
from alignlab.commands.preflight import plan_study
from alignlab.context import RunContext
from alignlab.measuring.results import results
from alignlab.recipes.preset import preset_for
from alignlab.recipes.study import Recipe, StudyConfig
from alignlab.records import to_dict
from alignlab.report import write_report
from alignlab.runs import Run, RunIdentity
from alignlab.training.ranks import main_process_only
from alignlab.types import StudyDescription


@main_process_only
def run(
    recipe: str,
    *overrides: str,
    config: str | Path | None = None,
    repair: bool = False,
    **settings: Any,
) -> Path:
    """Run a recipe, or resume it where it stopped; returns the report's path.

    Args:
        recipe: a name from `alignlab list recipes`.
        overrides: "key=value" strings, as on the command line.
        config: a YAML file of settings, under the overrides.
        repair: compute the damaged stages of the run in `out` again.
        settings: the same as overrides, nested mappings for nested settings.

    Raises:
        BadInput: unknown recipe or setting, bad data, bad model, another run in `out`, or a
            damaged one.
        RunFailed: the work could not be finished; the same call resumes.
    """
    known: Recipe = registry.get("recipe", recipe)
    chosen = assemble(known, config, overrides, settings, out=f"runs/{recipe}")
    plan = plan_study(known, chosen)
    out = Path(chosen.out)
    seeds = tuple(range(chosen.seed, chosen.seed + chosen.seeds))
    layers = _given(config, overrides, settings)
    given = tuple(key for layer in layers for key in configs.dotted(layer))
    identity = RunIdentity(known.name, _identity(chosen), seeds, chosen, given)
    study_run = Run.start(out, identity, repair=repair)
    try:
        study_run.describe(
            StudyDescription(known.name, known.question, known.baseline, plan.models)
        )
        began = time.monotonic()
        template = chosen.chat_template or None
        context = RunContext(study_run, chosen.seed, chosen.hardware, template, chosen.track)
        torch.set_num_threads(context.threads)
        measured = [known.study(_of_seed(context, seed, len(seeds)), chosen) for seed in seeds]
        results(context, measured)
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
    *,
    out: str = "",
) -> StudyConfig:
    """Return a recipe's settings: defaults, preset, YAML file, key=value, in rising order.

    Args:
        out: run directory where the settings name none.

    Raises:
        BadInput: an unknown key or a value of the wrong type.
    """
    given = _given(file, overrides, settings)
    first = configs.build(recipe.config, *given)
    keys = {field.name for field in fields(recipe.config)}
    name, preset = preset_for(first.model, first.preset, first.objective.name, keys)
    chosen = configs.build(recipe.config, preset, *given)
    return replace(chosen, preset=name, out=chosen.out or out)


def _given(
    file: str | Path | None, overrides: Sequence[str], settings: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Return the settings that the user chose, in rising order."""
    layers: list[Mapping[str, Any]] = [configs.read_yaml(Path(file))] if file else []
    return [*layers, configs.parse_overrides(overrides), settings]


def _identity(config: StudyConfig) -> dict[str, Any]:
    """Return the settings that must stay equal for a run to be resumed."""
    plain: dict[str, Any] = to_dict(config)
    plain.pop("out")
    plain.pop("track")
    for key in ("workers", "parallel"):
        plain["hardware"].pop(key)
    return plain


def _of_seed(context: RunContext, seed: int, of: int) -> RunContext:
    return replace(context.scope(f"seed-{seed}") if of > 1 else context, seed=seed)


def _add_wall_time(run_: Run, seconds: float) -> None:
    """Keep the time of every session that worked on this run."""
    before = run_.manifest().get("wall_seconds", 0.0)
    run_.change_manifest(wall_seconds=round(before + seconds, 1))
