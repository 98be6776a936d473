"""Print some figures of every model of a finished study as one Markdown table.

    python benchmarks/figures.py runs/critiques critique/f1 critique/recall score/mean

A figure is BENCHMARK/METRIC, over all prompts and against nobody; with its 95% interval.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

from checked_files import OBJECT, one_line, read_object, read_summary

from alignlab.errors import BadInput


def table(run: Path, figures: Sequence[str]) -> str:
    """Return the table: a row per model that has one of the figures, in the study's order.

    Models that the study does not name stand at the end.

    Raises:
        BadInput: the run is not finished or broken, a figure that no model of the run has, or one
            that a model has twice.
    """
    found: dict[str, dict[str, str]] = {}
    for row in read_summary(run)["rows"]:
        figure = f"{row['benchmark']}/{row['metric']}"
        if figure in figures and row["against"] is None and row["group"] is None:
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


def cell(row: Mapping[str, Any]) -> str:
    """Return a figure with its interval, and the number of units without one."""
    if row["value"] is None:
        return "none"
    text = f"{row['value']:.3f}"
    if row["low"] is not None:
        text += f" [{row['low']:.3f}, {row['high']:.3f}]"
    return text + (f", {row['unscored']} unscored" if row["unscored"] else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("figures", nargs="+", metavar="BENCHMARK/METRIC")
    given = parser.parse_args()
    with one_line():
        print(table(given.run, given.figures))
