"""Compare runs: settings, paired differences, and prompts that flipped, on a page and printed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignlab.commands.report import run_folder
from alignlab.errors import BadInput
from alignlab.integrity import refuse_damage
from alignlab.report import compare_runs, labels
from alignlab.report.run_comparison import Flips, finding, run_names, verdict
from alignlab.report.run_settings import read_settings, setting_differences, words
from alignlab.text import shortened
from alignlab.types import Paired

if TYPE_CHECKING:
    from rich.table import Table

FLIPS = 50
"""Maximum number of flipped prompts on the page, per pair of models."""
SETTINGS = 12
"""Maximum number of differing settings printed; the page holds all."""


@dataclass(frozen=True)
class ComparedRuns:
    """Differences of runs, and the page that shows them."""

    page: Path
    names: tuple[str, ...]
    """Names of the runs."""
    settings: tuple[tuple[str, tuple[Any, ...]], ...]
    """Settings that differ, with the value of each run; None is not set."""
    paired: tuple[Paired, ...]
    flips: tuple[Flips, ...]
    """Prompts that flipped, per pair of models; of two runs only."""
    notes: tuple[str, ...]
    """Sentences on what was not compared."""


def compare(
    *runs: str | Path, mapping: Mapping[str, str] | str = "", out: str | Path | None = None
) -> ComparedRuns:
    """Write one page that compares two or more runs.

    Args:
        mapping: models of the first run and of the second to pair, for models of other names:
            `M2:dpo,M3:ipo` or a mapping.
        out: the page's path; by default `compare.html` next to the first run.

    Raises:
        BadInput: fewer than two runs, a folder that is no run, a mapped model that its run does
            not hold, or a folder as `out`.
    """
    if len(runs) < 2:
        raise BadInput(f"expected two or more run directories, found {len(runs)}")
    # Importing it takes seconds, which reports of single runs need not wait for.
    from alignlab.measuring.paired import compare_by_prompt
    from alignlab.viewer.comparison import read_mapping

    paths = [run_folder(run) for run in runs]
    for path in paths:
        refuse_damage(path)
    page = Path(out) if out else None
    if page is not None and page.is_dir():
        raise BadInput(f"compare: --out: expected a file, found the folder {page}")
    wanted = read_mapping(mapping) if isinstance(mapping, str) else dict(mapping)
    if wanted and len(paths) != 2:
        raise BadInput(f"compare: map: expected two runs, found {len(paths)}")
    names = run_names(paths)
    flips, unpaired = _flips(names, paths, wanted) if len(paths) == 2 else ([], [])
    paired = compare_by_prompt(list(zip(names, paths, strict=True)), wanted)
    page = compare_runs(paths, page, paired=paired, flips=flips, notes=unpaired)
    differing = setting_differences([read_settings(path) for path in paths])
    reasons = [f"Not comparable: {p.first} and {p.second}: {p.reason}." for p in paired if p.reason]
    return ComparedRuns(
        page, tuple(names), tuple(differing), tuple(p for p in paired if not p.reason),
        tuple(flips), (*unpaired, *reasons),
    )  # fmt: skip


def _flips(
    names: Sequence[str], paths: Sequence[Path], mapping: Mapping[str, str]
) -> tuple[list[Flips], list[str]]:
    """List the prompts that flipped; the runs are indexed in a temporary folder."""
    from alignlab.viewer.comparison import Side, flips, pair_models
    from alignlab.viewer.index import Index

    with (
        tempfile.TemporaryDirectory(prefix="alignlab-compare-") as folder,
        closing(Index(paths[0], Path(folder) / "first.sqlite")) as one,
        closing(Index(paths[1], Path(folder) / "second.sqlite")) as other,
    ):
        one.update()
        other.update()
        first, second = Side(names[0], paths[0], one), Side(names[1], paths[1], other)
        pairs, unpaired = pair_models(first, second, mapping)
        if len(unpaired) == 2:
            unpaired.append("--map MODEL:MODEL pairs models of other names.")
        found = flips(first, second, pairs, most=FLIPS)
        return sorted(found, key=lambda one: -one.up - one.down), unpaired


def tables(found: ComparedRuns) -> list[Table]:
    """Tabulate differing settings and paired differences, for a terminal."""
    from alignlab.commands._support.tables import empty_table, figure_cells

    made = []
    if found.settings:
        settings = empty_table("Settings that differ", ("setting", *found.names))
        for name, values in found.settings[:SETTINGS]:
            settings.add_row(name, *(shortened(words(value), 40) for value in values))
        if (more := len(found.settings) - SETTINGS) > 0:
            settings.add_row(f"and {more} more on the page")
        made.append(settings)
    if found.paired:
        columns = ("models", "metric", "difference", "95% interval", "prompts", "p (Holm)")
        title = "Paired differences: " + ", ".join(
            f"{name} less {found.names[0]}" for name in found.names[1:]
        )
        differences = empty_table(title, (*columns, "verdict"))
        for pair in found.paired:
            value, between = figure_cells(pair.value, pair.low, pair.high)
            metric = f"{labels.benchmark(pair.benchmark)}: {labels.metric(pair.metric).lower()}"
            p = labels.number(pair.p_holm, "p")
            differences.add_row(
                _models(pair), metric, value, between, f"{pair.prompts:,}", p, verdict(pair)
            )
        made.append(differences)
    return made


def lines(found: ComparedRuns) -> list[str]:
    """Return what is printed below the tables: flipped prompts, notes, and the page."""
    nothing = [] if found.settings else ["No setting differs."]
    answer = [said] if (said := finding(found.paired)) else []
    flipped = [f"Flipped: {one}" for one in found.flips]
    return [*nothing, *answer, *flipped, *found.notes]


def _models(pair: Paired) -> str:
    """Name the models of a difference; one name if both runs call it so."""
    first, second = (name.partition(": ")[2] for name in (pair.first, pair.second))
    return first if first == second else f"{pair.first} − {pair.second}"
