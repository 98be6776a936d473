"""What there is: the parts of a kind, and the settings of a recipe."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from alignlab import configs, registry
from alignlab.commands.tables import show
from alignlab.errors import unknown_name

if TYPE_CHECKING:
    from alignlab.recipes.study import Recipe

KINDS = {
    "recipes": "recipe",
    "objectives": "objective",
    "feedback": "feedback",
    "engines": "engine",
    "benchmarks": "benchmark",
    "data": "data",
}


def list_parts(what: str) -> dict[str, str]:
    """Name -> one line about it, for every part of a kind.

    Raises:
        BadInput: no such kind.
    """
    if what not in KINDS:
        raise unknown_name("list", what, KINDS)
    kind = KINDS[what]
    about = _question if kind == "recipe" else _about
    found = {name: about(registry.get(kind, name)) for name in registry.names(kind)}
    if kind == "benchmark":  # some measure files or join two parts: not of the registry
        from alignlab.commands.evaluate import BENCHMARKS
        from alignlab.measuring.judge_audit import NAME, JudgeAudit

        others = {NAME: JudgeAudit, **BENCHMARKS}
        found = {name: _about(part) for name, part in others.items()} | found
    return dict(sorted(found.items()))


def show_options(recipe: str) -> None:
    """Print every setting of a recipe with its default and its meaning."""
    known: Recipe = registry.get("recipe", recipe)
    show_settings(configs.describe(known.config))


def show_train_options(objective: str) -> None:
    """Print every setting of a training towards an objective."""
    from alignlab.commands.rollout import RolloutSettings
    from alignlab.commands.train import TrainSettings
    from alignlab.objectives.rollout_batch import is_policy_gradient

    known = registry.get("objective", objective)
    settings = RolloutSettings if is_policy_gradient(known) else TrainSettings
    own = configs.describe(known, "objective.")
    show_settings([o for o in configs.describe(settings) if o.key != "objective"] + own)


def show_source_options(spec: str) -> None:
    """Print every option of a feedback source, and where in its spec it stands.

    Raises:
        BadInput: no such source.
    """
    name = spec.partition(":")[0].partition(",")[0]
    factory, options = registry.get("feedback", name), registry.options("feedback", name)
    print(f"\n{_about(factory)}")
    if options is None:
        print(f"{name} has no options.")
        return
    inside = "options" in inspect.signature(factory).parameters
    print(f"Options of {name}, after {'a comma' if inside else 'a question mark'}:")
    show_settings(configs.describe(options))


def show_settings(options: Sequence[configs.Option]) -> None:
    """Print settings with their defaults and meanings."""
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for option in options:
        table.add_row(option.key, _plain(option.default), option.doc)
    show(table)


def _question(recipe: Recipe) -> str:
    return recipe.question


def _about(part: Any) -> str:
    doc = inspect.getdoc(part) or inspect.getdoc(sys.modules[part.__module__]) or ""
    return " ".join(doc.split("\n\n")[0].split())


def _plain(value: Any) -> str:
    return "" if value in ("", None, (), {}) else str(value)
