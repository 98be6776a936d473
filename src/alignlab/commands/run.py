"""Run a recipe: settings, plan, run directory, study, figures, report."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from alignlab import configs, machine, progress, registry
from alignlab.commands._support.job import open_run, setting_layers
from alignlab.commands._support.measured_speed import speeds
from alignlab.commands._support.outcome import note_outcome, note_plan
from alignlab.commands._support.placed import Placed, placed
from alignlab.commands._support.terminal import head
from alignlab.commands._support.train_setup import refuse_idle, refuse_large
from alignlab.commands.preflight import plan_study
from alignlab.context import RunContext
from alignlab.errors import BadInput, RunFailed
from alignlab.generation.vllm_sampler import lasting_engine
from alignlab.measuring import card_cache, left_out
from alignlab.measuring.measure import StudyMeasurements
from alignlab.measuring.results import results
from alignlab.plan import Plan
from alignlab.recipes.preset import NAMES, preset_for
from alignlab.recipes.study import Recipe, StudyConfig
from alignlab.records import to_dict
from alignlab.released import release_weights
from alignlab.report import write_report
from alignlab.runs import RunIdentity, refuse_other_recipe
from alignlab.training.config import TrainConfig, saves_adapter
from alignlab.training.ranks import main_process_only
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import StudyDescription, Unscored

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


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
    refuse_other_recipe(Path(chosen.out), known.name)  # before the plan, which takes time
    fitness = _fitness(chosen)
    with placed(chosen) as cluster:
        if cluster.session:
            cluster.session.warm_up(cluster.nodes)
        plan = plan_study(
            known,
            chosen,
            speeds=partial(speeds, measure=False),
            nodes=cluster.nodes,
            fits=None if cluster.nodes else partial(_refuse_large, chosen),
        )
        identity = identity_of(known, chosen, setting_layers(config, overrides, settings))
        return _run(known, chosen, _Start(plan, cluster, fitness, identity, repair))


class _Start(NamedTuple):
    """State of a run at its start, apart from its settings."""

    plan: Plan
    cluster: Placed
    fitness: str
    identity: RunIdentity
    repair: bool


def _run(known: Recipe, chosen: StudyConfig, start: _Start) -> Path:
    """Run a planned study, or resume it; return the report's path."""
    plan, out, seeds = start.plan, Path(chosen.out), start.identity.seeds
    where = chosen.hardware, chosen.chat_template, chosen.track
    with (
        machine.gc_frozen(),
        open_run(out, start.identity, *where, repair=start.repair) as context,
    ):
        description = StudyDescription(
            known.name,
            known.question,
            known.baseline,
            plan.models,
            judge=chosen.judge_note,
            fitness=start.fitness,
            options=known.options_of(plan.models),
        )
        context.run.describe(description)
        note_plan(context.run, plan)
        progress.say(head(plan, known.question))
        contexts = [_of_seed(context, seed, len(seeds)) for seed in seeds]
        measured, cluster = start.cluster.run(known, contexts, chosen, plan)
        pooled = left_out.in_every_seed(measured)
        models = known.described(made_in(measured, plan.models))
        if missing := left_out.note(measured):
            models = {name: text for name, text in models.items() if name in pooled[0].answers}
        context.run.describe(replace(description, models=models, left_out=missing))
        results(context, pooled)
        context.run.finish()
        note_outcome(context.run, cluster)
        if not chosen.keep_weights:
            release_weights(context.run.stages_folder)
        report = write_report(out)
        _refuse_unjudged(measured, report)
        return report


def _refuse_large(config: StudyConfig, loop: TrainConfig) -> None:
    """Refuse a training of the study that exceeds the free memory, and name its setting."""
    rolled = isinstance(loop, RolloutConfig)
    try:
        alone = saves_adapter(loop, sharded=config.hardware.sharded)
        refuse_large(config.model, loop, config.hardware.device, frozen_copy=rolled, alone=alone)
    except BadInput as error:
        named = [f.name for f in fields(config) if getattr(config, f.name) == loop]
        raise BadInput(": ".join([*named[:1], str(error)])) from None


def made_in(measured: Sequence[StudyMeasurements], planned: Mapping[str, str]) -> dict[str, str]:
    """Describe the making of each model with the counts of the run; a range where seeds differ.

    Args:
        planned: model -> its making by the plan, which counts what the settings allow.
    """
    return {
        model: _ranges([m.made[model] for m in measured if model in m.made] or [text])
        for model, text in planned.items()
    }


def _ranges(texts: Sequence[str]) -> str:
    """Merge texts that differ in numbers alone; others are their first."""
    if len({_NUMBER.sub("#", text) for text in texts}) > 1:
        return texts[0]
    several = zip(*(_NUMBER.findall(text) for text in texts), strict=True)
    merged = iter([_range(sorted(set(numbers), key=float)) for numbers in several])
    return _NUMBER.sub(lambda _: next(merged), texts[0])


def _range(numbers: Sequence[str]) -> str:
    return numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _refuse_unjudged(measured: Sequence[StudyMeasurements], report: Path) -> None:
    """Fail a study of which no held-out answer was judged.

    Raises:
        RunFailed: answers were given to the judge, and every verdict is unscored.
    """
    verdicts = [
        f.verdict
        for m in measured
        for each in (m.scored, m.comparisons)
        for several in each.values()
        for f in several
    ]
    if verdicts and all(isinstance(verdict, Unscored) for verdict in verdicts):
        reasons = Counter(v.reason for v in verdicts if isinstance(v, Unscored))
        raise RunFailed(
            f"no held-out answer could be judged ({reasons.most_common(1)[0][0]}); another "
            f"measure.judge, or measure.judge=expected,...:SPEC for a model; report: {report}"
        )


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
    # Settings may need those of the preset to be valid, so what decides it is read unvalidated.
    first, keys = configs.merged(recipe.config, *given), {f.name for f in fields(recipe.config)}
    objective = first["objective"]
    if first["preset"] not in (*NAMES, "auto") or not isinstance(objective, Mapping):
        configs.build(recipe.config, *given)  # refuses them
    name, preset = preset_for(str(first["model"]), first["preset"], objective["name"], keys)
    chosen = configs.build(recipe.config, preset, *given)
    _check_idle(recipe, chosen, given)
    return replace(chosen, preset=name, out=chosen.out or out)


def _check_idle(recipe: Recipe, chosen: StudyConfig, given: Sequence[Mapping[str, Any]]) -> None:
    """Log given settings that the study never reads; refuse those without effect in a training.

    Raises:
        BadInput: a setting that another setting of the same training makes idle.
    """
    named: dict[str, Any] = {}
    for layer in given:
        configs.merge(named, layer)
    idle = [
        key
        for key in configs.dotted(named)
        if any(f"{key}.".startswith(f"{group}.") for group in recipe.idle)
    ]
    if idle:
        log.warning("settings without effect in %s: %s", recipe.name, ", ".join(idle))
    for one in fields(chosen):
        loop = getattr(chosen, one.name)
        if isinstance(loop, TrainConfig):
            refuse_idle(loop, named.get(one.name, {}), section=f"{one.name}.")


def _fitness(config: StudyConfig) -> str:
    """State the measuring judge's fitness by its card; nothing where it gives the gold scores."""
    measure = config.measure
    judge = measure.pair_judge or config.measuring_judge
    gold = judge == measure.truth or (config.measures_truth and not measure.pair_judge)
    if not judge or (gold and not measure.card):
        return ""
    return card_cache.find(judge, measure.card).text


def identity_of(
    recipe: Recipe, config: StudyConfig, layers: Sequence[Mapping[str, Any]]
) -> RunIdentity:
    """Build the identity of a study's run: recipe, settings and seeds.

    Args:
        layers: the settings that the user chose.
    """
    seeds = tuple(range(config.seed, config.seed + config.seeds))
    given = tuple(key for layer in layers for key in configs.dotted(layer))
    return RunIdentity(recipe.name, _identity(config), seeds, config, given)


def _identity(config: StudyConfig) -> dict[str, Any]:
    """Return the settings that must be unchanged for a run to be resumed."""
    plain: dict[str, Any] = to_dict(config)
    plain.pop("out")
    plain.pop("track")
    plain.pop("keep_weights")
    plain["measure"].pop("card")
    for key in ("workers", "parallel", "cluster", "engines", "processes"):
        plain["hardware"].pop(key)
    engine = plain["hardware"].pop("engine")
    if config.hardware.vllm:  # its texts differ; runs by the local engine are as they always were
        plain["hardware"]["engine"] = lasting_engine(engine)
    return plain


def _of_seed(context: RunContext, seed: int, of: int) -> RunContext:
    return replace(context.scope(f"seed-{seed}") if of > 1 else context, seed=seed)
