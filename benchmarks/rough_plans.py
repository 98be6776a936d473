"""Compare the time that finished studies took with today's prediction without measured speeds.

    python benchmarks/rough_plans.py RUN...

For each run directory the study is planned again from the command in its manifest, by the
throughput of matrix products alone (`alignlab check --rough`), and compared with the processor time
of its stages, which other programs do not disturb. The folders of its data and models must exist.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

import numpy as np
from checked_files import OBJECT, TEXT, one_line, read_object

from alignlab import registry
from alignlab.commands._support.measured_speed import speeds
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble
from alignlab.errors import BadInput
from alignlab.files import read_json
from alignlab.plan import duration


def planned(run: Path) -> float:
    """Return the predicted seconds of a finished study.

    Raises:
        BadInput: there is no run, it is no study, or its data or models are not here.
    """
    manifest = read_object(run / "manifest.json", {"recipe": TEXT, "command": TEXT})
    recipe, words = manifest["recipe"], shlex.split(manifest["command"])
    if words[:3] != ["alignlab", "run", recipe]:
        raise BadInput(f"{run}: expected a run of `alignlab run`, found {manifest['command'][:60]}")
    known = registry.get("recipe", recipe)
    config = assemble(known, None, words[3:], {})
    plan = plan_study(known, config, speeds=partial(speeds, measure=False))
    assert plan.time is not None
    return plan.time.seconds


def took(run: Path) -> float:
    """Return the processor seconds of a study's stages.

    Stages of drift, which took next to none, count the trainings inside them in older runs.

    Raises:
        BadInput: the study is not finished.
    """
    read_object(run / "manifest.json", {"outcome": OBJECT})
    stages = (run / "stages").rglob("status.json")
    known = [read_json(file) for file in stages if "-drift-" not in file.parent.name]
    return float(sum(status.get("cpu_seconds", 0.0) for status in known))


def main() -> None:
    """Print a row per run, and the spread of predicted over actual time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    args = parser.parse_args()
    with one_line(), tempfile.TemporaryDirectory() as folder:
        os.environ["ALIGNLAB_CACHE"] = folder  # no measured speeds
        ratios, head = [], "| study | predicted | processor time | predicted over actual |"
        for run in args.runs:
            actual, predicted = took(run), planned(run)
            if not ratios:
                print(f"{head}\n|---|---|---|---|")
            ratios.append(predicted / actual)
            row = run.name, duration(predicted), duration(actual), f"{ratios[-1]:.2f}"
            print(f"| {' | '.join(row)} |", flush=True)
        low, middle, high = np.quantile(ratios, (0.0, 0.5, 1.0))
        within = sum(0.5 <= ratio <= 2 for ratio in ratios)
        print(f"\nover {len(ratios)} studies: {low:.2f} to {high:.2f}, median {middle:.2f}; "
              f"half to double in {within}")  # fmt: skip


if __name__ == "__main__":
    main()
