"""Run a recipe: settings, plan, run directory, study, figures, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from alignlab import configs, registry
from alignlab.commands._support.job import open_run, setting_layers
from alignlab.commands._support.train_setup import refuse_large
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
    """Implement `alignlab.run` for a model and data given by spec; return the report's path.

    Raises:
        BadInput: unknown recipe or setting, bad data, bad model, another run in `out`, or a
            damaged one.
        RunFailed: the work could not be finished; the same call resumes.
    """
    known: Recipe = registry.get("recipe", recipe)
    chosen = assemble(known, config, overrides, settings, out=f"runs/{recipe}")
    plan = plan_study(known, chosen)
    for loop in (chosen.sft, chosen.preference):
        refuse_large(chosen.model, loop, chosen.hardware.device)
    out = Path(chosen.out)
    seeds = tuple(range(chosen.seed, chosen.seed + chosen.seeds))
    layers = setting_layers(config, overrides, settings)
    given = tuple(key for layer in layers for key in configs.dotted(layer))
    identity = RunIdentity(known.name, _identity(chosen), seeds, chosen, given)
    where = chosen.hardware, chosen.chat_template, chosen.track
    with open_run(out, identity, *where, repair=repair) as context:
        context.run.describe(
            StudyDescription(known.name, known.question, known.baseline, plan.models)
        )
        began = time.monotonic()
        measured = [known.study(_of_seed(context, seed, len(seeds)), chosen) for seed in seeds]
        results(context, measured)
        context.run.finish()
        _add_wall_time(context.run, time.monotonic() - began)
        return write_report(out)


def assemble(
    recipe: Recipe,
    file: str | Path | None,
    overrides: Sequence[str],
    settings: Mapping[str, Any],
    *,
    out: str = "",
) -> StudyConfig:
    """Merge a recipe's settings: defaults, preset, YAML file, key=value, in rising order.

    Args:
        out: run directory, if the settings name none.

    Raises:
        BadInput: an unknown key or a value of the wrong type.
    """
    given = setting_layers(file, overrides, settings)
    first = configs.build(recipe.config, *given)
    keys = {field.name for field in fields(recipe.config)}
    name, preset = preset_for(first.model, first.preset, first.objective.name, keys)
    chosen = configs.build(recipe.config, preset, *given)
    return replace(chosen, preset=name, out=chosen.out or out)


def _identity(config: StudyConfig) -> dict[str, Any]:
    """Return the settings that must be unchanged for a run to be resumed."""
    plain: dict[str, Any] = to_dict(config)
    plain.pop("out")
    plain.pop("track")
    for key in ("workers", "parallel"):
        plain["hardware"].pop(key)
    return plain


def _of_seed(context: RunContext, seed: int, of: int) -> RunContext:
    return replace(context.scope(f"seed-{seed}") if of > 1 else context, seed=seed)


def _add_wall_time(run_: Run, seconds: float) -> None:
    """Record the time of the session in the run's manifest."""
    before = run_.manifest().get("wall_seconds", 0.0)
    run_.change_manifest(wall_seconds=round(before + seconds, 1))
