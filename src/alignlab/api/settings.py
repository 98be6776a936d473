"""Read the settings of every command from source files, to list them and refuse unknown ones."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab import configs, registry, source
from alignlab.errors import BadInput, unknown_name
from alignlab.source import Option, Place

GENERATE = Place("alignlab.commands.generate", "GenerateSettings")
JUDGE = Place("alignlab.commands.judge", "JudgeFileSettings")
TRAIN = Place("alignlab.commands.train", "TrainSettings")
ROLLOUT = Place("alignlab.commands.rollout", "RolloutSettings")
EVALUATE = Place("alignlab.measuring.evaluate", "EvaluateSettings")
ANNOTATIONS = Place("alignlab.commands.feedback", "ExportSettings")
JUDGE_CARD = Place("alignlab.measuring.judge_card", "CardSettings")
QUERY_TYPES = Place("alignlab.commands.query_types", "QueryTypeSettings")
_ROLLOUT_LOSSES = ("RolloutLogps", "ValuedLogps")
"""Losses accepted by a training on rollouts."""

FILES = {
    "alpaca_eval": ("alignlab.commands.evaluate", "alpaca_eval"),
    "arena_hard": ("alignlab.commands.evaluate", "arena_hard"),
    "human_eval": ("alignlab.commands.evaluate", "human_eval"),
    "judge_scores": ("alignlab.commands.evaluate", "judge"),
    "second_judge": ("alignlab.api.second_judge", "second_judge"),
    "win_rates": ("alignlab.commands.evaluate", "win_rates"),
    "reread": ("alignlab.commands.reread", "agreement"),
}
"""Benchmarks of existing files -> function that computes them."""


@dataclass(frozen=True)
class Settings:
    """Settings of a command, with an introduction."""

    options: list[Option]
    heading: tuple[str, ...] = ()


def given(
    config: str | Path | None, overrides: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Merge a YAML file, `key=value` strings and keyword arguments, later ones winning."""
    merged: dict[str, Any] = configs.read_yaml(Path(config)) if config else {}
    for layer in (configs.parse_overrides(overrides), settings):
        configs.merge(merged, layer)
    return merged


def recipe(name: str, values: Mapping[str, Any]) -> Settings:
    """Describe a recipe's settings with the defaults of the preset that applies.

    Args:
        name: the recipe.
        values: settings given; model, preset and objective determine the preset.

    Raises:
        BadInput: no such recipe or setting.
    """
    from alignlab.recipes.preset import NAMES, preset_for

    place = registry.find("recipe", name).options
    assert place is not None
    options = source.describe(place)
    own = {option.key: option.default for option in options}
    objective = values.get("objective", {})
    chosen = objective.get("name") if isinstance(objective, Mapping) else objective
    named = str(values.get("preset") or own["preset"])
    preset = preset_for(
        str(values.get("model") or own["model"]),
        named if named in NAMES else "auto",  # an unknown one is refused with the other settings
        chosen or own["objective.name"],
        {key.split(".")[0] for key in own},
    )
    known = {**_flat(preset.settings), "preset": preset.name}
    shown = [Option(o.key, known.get(o.key, o.default), o.doc) for o in options]
    return Settings(
        shown, (f"Defaults of preset {preset.name}; others: preset=NAME, model=MODEL.",)
    )


def is_objective(name: str) -> bool:
    """Return whether a name is an objective's and no recipe's."""
    return name in registry.names("objective") and name not in registry.names("recipe")


def training(objective: Any) -> Settings:
    """Describe the settings of a training with an objective, its options included.

    Args:
        objective: a registered name, or an objective.
    """
    part = registry.find("objective", objective) if isinstance(objective, str) else None
    if part is not None and part.options is not None:
        takes = source.attribute(part.options, "takes")
        loss = "" if takes is None else ast.unparse(takes[1])
        own = source.describe(part.options, "objective.")
    else:  # one that a script or a notebook defines
        known = objective if part is None else registry.get("objective", objective)
        loss = getattr(getattr(known, "takes", None), "__name__", "")
        own = []
    options = source.describe(ROLLOUT if loss in _ROLLOUT_LOSSES else TRAIN)
    return Settings([o for o in options if o.key != "objective" or not own] + own)


def generation() -> Settings:
    """Describe the settings of `generate`."""
    return Settings(source.describe(GENERATE))


def judging(spec: str = "") -> Settings:
    """Describe the settings of `judge` and `reward`, and the options of the source."""
    return Settings(source.describe(JUDGE), tuple(feedback_source(spec)) if spec else ())


def judge_card() -> Settings:
    """Describe the settings of a judge card."""
    return Settings(source.describe(JUDGE_CARD))


def sheet() -> Settings:
    """Describe the settings of a sheet for annotators."""
    return Settings(source.describe(ANNOTATIONS))


def evaluation(benchmark: str) -> Settings:
    """Describe the inputs and settings of a benchmark.

    Raises:
        BadInput: no such benchmark, or one of files, which has only options.
    """
    place = task(benchmark)
    found = source.attribute(place, "needs")
    assert found is not None
    needs = {k.arg: k.value for k in found[1].keywords} if isinstance(found[1], ast.Call) else {}
    data, judges = (
        source.evaluate(found[0], needs[key]) if key in needs else "" for key in ("data", "judges")
    )
    heading = (f"--data: {data or 'none'}", f"--judge: {' or '.join(judges) or 'none'}")
    return Settings(source.describe(place) + source.describe(EVALUATE), heading)


def feedback_source(spec: str) -> list[str]:
    """Describe a feedback source and its options."""
    name = spec.partition(":")[0].partition(",")[0].partition("?")[0]
    part = registry.find("feedback", name)
    if part.options is None:
        return [part.about, f"{name} has no options."]
    node = source.find(*part.place)[1]
    parameters = [a.arg for a in ast.walk(node) if isinstance(a, ast.arg)]
    where = "a comma" if "options" in parameters else "a question mark"
    lines = [f"{o.key}={o.default}: {o.doc}" for o in source.describe(part.options)]
    return [part.about, f"Options of {name}, after {where}:", *lines]


def benchmarks() -> dict[str, str]:
    """Return name -> description of every benchmark that `evaluate` runs."""
    runs = {
        part.name: part.about
        for part in registry.index("benchmark").values()
        if source.attribute(part.place, "needs")
    }
    files = {name: source.docstring(*place) for name, place in FILES.items()}
    return dict(sorted({**files, **runs}.items()))


def task(benchmark: str) -> Place:
    """Return the class of a benchmark that runs on models or judges.

    Raises:
        BadInput: no benchmark has the name.
    """
    part = registry.index("benchmark").get(benchmark)
    if part is None or source.attribute(part.place, "needs") is None:
        if benchmark in FILES:
            raise BadInput(f"evaluate {benchmark}: has no settings; see --help for its options")
        raise unknown_name("benchmark", benchmark, [*benchmarks(), "judge-card"])
    return part.place


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names, except the options of an objective."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and key != "options":
            found |= _flat(value, f"{prefix}{key}.")
        found[prefix + key] = value
    return found
