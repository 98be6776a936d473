"""Compare runs prompt by prompt, by tests on the prompts that both runs hold.

Values are averaged over training seeds first; prompts are matched by their text, not by id. Models
are matched by name; if both runs hold a single model, these two are matched. Intervals resample
prompts in pairs, p-values are of a randomisation test, adjusted for all differences tested at once
(Holm).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.multiple import holm
from alignlab.evaluation.metrics.significance import difference
from alignlab.records import read_records
from alignlab.types import Paired, PromptValue

FILE = "prompt_values"
"""Name of the record file of values by prompt."""
FEWEST = 10
"""Minimum number of shared prompts of two runs; fewer give no useful interval."""


class FigureKey(NamedTuple):
    """Metric, judge and baseline, which must be equal in two runs for figures to be compared."""

    benchmark: str
    metric: str
    against: str | None
    by: str


Table = Mapping[FigureKey, Mapping[str, Mapping[str, float]]]
"""Metric -> model -> prompt -> value, averaged over training seeds."""


def compare_by_prompt(
    runs: Sequence[tuple[str, Path]], mapping: Mapping[str, str] | None = None
) -> list[Paired]:
    """Compare every later run with the first.

    Args:
        runs: name and run directory, two or more.
        mapping: model of the first run -> model of a later run, for models of other names.

    Returns:
        One record per figure that both runs hold, or one with the reason if they share none.
    """
    (first, path), *others = runs
    base, found = read_values(path), list[Paired]()
    for name, folder in others:
        found += _both(name, read_values(folder), first, base, mapping or {})
    tested = [i for i, pair in enumerate(found) if pair.p is not None]
    adjusted = holm([found[i].p or 0.0 for i in tested])
    for i, p in zip(tested, adjusted, strict=True):
        found[i] = replace(found[i], p_holm=float(p))
    return found


def models_of(run: Path) -> list[str]:
    """Return the models with values by prompt, in the order of the records."""
    return list(dict.fromkeys(model for models in read_values(run).values() for model in models))


def read_values(run: Path) -> Table:
    """Read a run's values by prompt.

    Raises:
        BadInput: a file that cannot be read.
    """
    several: dict[FigureKey, dict[str, dict[str, list[float]]]] = {}
    for file in sorted((run / "stages").rglob(f"{FILE}.jsonl")):
        try:
            values = list(read_records(file, PromptValue))
        except ValueError as error:
            raise BadInput(f"{file}: expected values by prompt, found {error}") from None
        for v in values:
            what = FigureKey(v.benchmark, v.metric, v.against, v.by)
            models = several.setdefault(what, defaultdict(lambda: defaultdict(list)))
            models[v.model][v.prompt].append(v.value)
    return {
        what: {
            model: {prompt: sum(vs) / len(vs) for prompt, vs in prompts.items()}
            for model, prompts in models.items()
        }
        for what, models in several.items()
    }


def _both(
    name: str, own: Table, other: str, base: Table, mapping: Mapping[str, str]
) -> list[Paired]:
    """Compare all figures that two runs share."""
    missing = [run for run, table in ((other, base), (name, own)) if not table]
    if missing:
        return [_nothing(name, other, f"no values by prompt are kept in {' and '.join(missing)}")]
    found = [
        pair
        for what in base
        if what in own
        for mine, theirs in _matched(own[what], base[what], mapping)
        for pair in _tested(
            what, (f"{name}: {mine}", own[what][mine]), (f"{other}: {theirs}", base[what][theirs])
        )
    ]
    shared = f"no model was measured in both by the same judge on {FEWEST} or more of the same"
    return found or [_nothing(name, other, f"{shared} prompts")]


def _matched(
    own: Mapping[str, object], base: Mapping[str, object], mapping: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Match the models of two runs: as mapped, else by name, else the only ones."""
    mapped = [(mapping[b], b) for b in base if mapping.get(b) in own]
    taken = set(mapping.values())
    named = [(m, m) for m in own if m in base and m not in mapping and m not in taken]
    if not mapped and not named and not mapping and len(own) == len(base) == 1:
        return [(next(iter(own)), next(iter(base)))]
    return [*mapped, *named]


def _tested(
    what: FigureKey, mine: tuple[str, Mapping[str, float]], theirs: tuple[str, Mapping[str, float]]
) -> list[Paired]:
    prompts = [p for p in mine[1] if p in theirs[1]]
    if len(prompts) < FEWEST:
        return []
    apart = difference([mine[1][p] for p in prompts], [theirs[1][p] for p in prompts])
    interval = apart.interval
    return [
        Paired(
            mine[0], theirs[0], what.benchmark, what.metric, interval.value, interval.low,
            interval.high, apart.p, None, apart.prompts,
        )
    ]  # fmt: skip


def _nothing(first: str, second: str, reason: str) -> Paired:
    return Paired(first, second, "", "", None, None, None, None, None, 0, reason)
