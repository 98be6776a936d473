"""Print some figures of every model of a finished study as one Markdown table.

    python benchmarks/figures.py runs/critiques critique/f1 critique/recall score/mean

A figure is BENCHMARK/METRIC, over all prompts and against nobody; with its 95% interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput
from alignlab.files import read_json


def table(run: Path, figures: Sequence[str]) -> str:
    """Return the table: a row per model that has one of the figures, in the study's order.

    Raises:
        BadInput: a figure that no model of the run has.
    """
    rows = [r for r in read_json(run / "summary.json")["rows"] if r["group"] is None]
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        figure = f"{row['benchmark']}/{row['metric']}"
        if figure in figures and row["against"] is None:
            found.setdefault(row["model"], {})[figure] = cell(row)
    for figure in figures:
        if not any(figure in cells for cells in found.values()):
            raise BadInput(f"{run}: expected a figure {figure}, found none")
    study = run / "study.json"  # not in the folders of docs/runs, whose rows keep the order
    models = [m for m in read_json(study)["models"] if m in found] if study.exists() else [*found]
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
    try:
        print(table(given.run, given.figures))
    except BadInput as error:
        parser.exit(2, f"{error}\n")
