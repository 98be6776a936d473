"""Print some figures of every model of a finished study as one Markdown table.

    python benchmarks/figures.py runs/critiques critique/f1 critique/recall score/mean
    python benchmarks/figures.py docs/runs/rlvr_real score/mean --pool docs/runs/rlvr_real_1
    python benchmarks/figures.py docs/runs/r3_diversity diversity/self_bleu@type:open

A figure is BENCHMARK/METRIC over all prompts, or over those of a group behind an @, with its 95%
interval; against nobody, or where a benchmark compares (head_to_head/win_rate), against the one
other model that it names. `--pool` adds the seeds of another run of the same study, both in
`docs/runs`: mean scores and win rates, without the prompts that are left out there, with intervals
over prompts and seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

import kept_runs
from checked_files import OBJECT, one_line, read_object, read_summary

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Interval


def table(run: Path, figures: Sequence[str]) -> str:
    """Return the table: a row per model that has one of the figures, in the study's order.

    Models that the study does not name stand at the end.

    Raises:
        BadInput: the run is not finished or broken, a figure that no model of the run has, or one
            that a model has twice.
    """
    found: dict[str, dict[str, str]] = {}
    rows = [(name_of(row), row) for row in read_summary(run)["rows"]]
    alone = {figure for figure, row in rows if row["against"] is None}
    for figure, row in rows:
        compared = row["against"] is not None and figure in alone
        if figure in figures and not compared:
            cells = found.setdefault(row["model"], {})
            if figure in cells:
                raise BadInput(f"{run}: expected one {figure} of {row['model']}, found two")
            cells[figure] = cell(row)
    for figure in figures:
        if not any(figure in cells for cells in found.values()):
            raise BadInput(f"{run}: expected a figure {figure}, found none")
    study = run / "study.json"  # not in the folders of docs/runs, whose rows keep the order
    named = read_object(study, {"models": OBJECT})["models"] if study.exists() else {}
    models = [model for model in dict.fromkeys([*named, *found]) if model in found]
    lines = [["model", *figures], ["---"] * (1 + len(figures))]
    lines += [[model, *(found[model].get(f, "") for f in figures)] for model in models]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def name_of(row: Mapping[str, Any]) -> str:
    """Return a row's figure: benchmark, metric, and the group of prompts if it is of one."""
    return f"{row['benchmark']}/{row['metric']}" + (f"@{row['group']}" if row["group"] else "")


def pooled(runs: Sequence[Path], figures: Sequence[str]) -> str:
    """Return the table of kept runs whose seeds are pooled.

    Raises:
        BadInput: a folder is no kept run, the runs answer different prompts, or a figure is not
            kept prompt by prompt.
    """
    run = kept_runs.pool([kept_runs.read(folder) for folder in runs])
    known = {
        "score/mean": (run.scores, run.score_table),
        "head_to_head/win_rate": (run.outcomes, run.outcome_table),
    }
    for figure in figures:
        if figure not in known:
            raise BadInput(f"{figure}: expected one of {', '.join(known)} with --pool")
    lines = [["model", *figures], ["---"] * (1 + len(figures))]
    for model in run.scores:
        cells = [
            shown(kept_runs.crossed(values_of(model))[0]) if model in models else ""
            for models, values_of in (known[figure] for figure in figures)
        ]
        lines.append([model, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(figure: Interval) -> str:
    """Format a figure with its interval."""
    if figure.value is None:
        return "none"
    bounds = "" if figure.low is None else f" [{figure.low:.3f}, {figure.high:.3f}]"
    return f"{figure.value:.3f}{bounds}"


def cell(row: Mapping[str, Any]) -> str:
    """Return a figure with its interval, and the number of units without one."""
    text = shown(Interval(row["value"], row["low"], row["high"], row["n"]))
    return text + (
        f", {row['unscored']} unscored" if row["value"] is not None and row["unscored"] else ""
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("figures", nargs="+", metavar="BENCHMARK/METRIC[@GROUP]")
    parser.add_argument("--pool", type=Path, action="append", default=[], metavar="RUN")
    given = parser.parse_args()
    with one_line():
        runs = [given.run, *given.pool]
        print(pooled(runs, given.figures) if given.pool else table(given.run, given.figures))
