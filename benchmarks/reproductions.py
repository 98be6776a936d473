"""Print the ledger of reproductions: every claim, what its source found, what runs here found.

    python benchmarks/reproductions.py             # the tables of docs/reproductions.md
    python benchmarks/reproductions.py --write     # put them into the page

Claims are in `benchmarks/claims.yaml`, figures of runs in `docs/runs` (`benchmarks/kept_runs.py`).
A figure is a win rate against the run's baseline, a difference of two models on the same prompts,
or a row of the run's summary; seeds of several runs (`run: [a, b]`) are pooled. Intervals resample
prompts and training seeds where there are several (95%), those of rows prompts alone. Verdicts
follow from the interval alone: held, if it lies on the claimed side of no effect; failed, on the
other side; undecided, if it holds no effect. A claim of equality is held if the interval lies
within 0.05 of no effect. The detectable difference is the smallest that would be found with 80%
power at the same n: from the standard deviation over prompts of the paired difference (averaged
over seeds), with the spread of the seeds' means added.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

import kept_runs
from checked_files import one_line, write
from claims_file import read_claims
from controls_table import controls_table
from kept_runs import KeptRun, crossed

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Floats, Interval
from alignlab.evaluation.metrics.power import detectable
from alignlab.files import read_text

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "docs/runs"
PAGE = ROOT / "docs/reproductions.md"
CLAIMS = Path(__file__).with_name("claims.yaml")
MARK = "<!-- printed by benchmarks/reproductions.py: {} -->"
MARGIN = 0.05
"""Differences of rates below which a claim of equality holds."""


@dataclass(frozen=True)
class Figure:
    """Figure of a run, with what its verdict needs."""

    run: str
    what: str
    shown: Interval
    """The figure as printed."""
    apart: Interval
    """Its difference from nothing, on which the verdict rests."""
    error: float
    """Standard error of that difference."""
    n: str
    """Units behind the figure, in words."""
    seeds: int
    expect: str
    """Claimed side of nothing: more, less or same."""

    @property
    def verdict(self) -> str:
        """Verdict of the interval."""
        low, high = self.apart.low, self.apart.high
        if low is None or high is None:
            return "undecided"
        if self.expect == "same":
            held, failed = low > -MARGIN and high < MARGIN, low > 0 or high < 0
            return "held" if held else "failed" if failed else "undecided"
        above, below = low > 0, high < 0
        held, failed = (above, below) if self.expect == "more" else (below, above)
        return "held" if held else "failed" if failed else "undecided"

    def cell(self) -> str:
        """Return the figure as a cell of the table."""
        signed = self.shown is self.apart
        value, low, high = (number(x, signed) for x in parts(self.shown))
        bounds = "" if self.shown.low is None else f" [{low}, {high}]"
        return f"`{self.run}`, {self.what}: {value}{bounds}, {self.n}"

    def verdict_cell(self) -> str:
        """Return the verdict, with the detectable difference where nothing is decided."""
        some = "" if self.seeds > 1 else " (one seed)"
        if self.verdict != "undecided":
            return f"**{self.verdict}**{some}"
        if math.isnan(self.error):
            return f"undecided{some}"
        return f"undecided{some}; detectable {detectable(1, self.error):.3f}"


def parts(interval: Interval) -> tuple[float, float, float]:
    """Return value and bounds, NaN where there is none."""
    found = (interval.value, interval.low, interval.high)
    value, low, high = (math.nan if x is None else x for x in found)
    return value, low, high


def number(value: float, signed: bool) -> str:
    """Format a figure to three digits."""
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def measure(run: KeptRun, asked: Mapping[str, Any]) -> Figure:
    """Measure one figure of a run as a claim asks.

    Raises:
        BadInput: the run has no such model or row, no verdict on it, or other seeds of the other.
    """
    if "row" in asked:
        return _of_rows(run, asked)
    table = run.score_table if asked.get("of") == "score" else run.outcome_table
    values_SP, model, over = table(asked["model"]), asked["model"], asked.get("over")
    if over is not None:
        other_SP = table(over)
        by_model = run.scores if asked.get("of") == "score" else run.outcomes
        if list(by_model[model]) != list(by_model[over]):
            raise BadInput(f"{run.name}: expected seeds of {model!r} for {over!r}, found others")
        values_SP = values_SP - other_SP
    what = model if over is None else f"{model} - {over}"
    if not np.isfinite(values_SP).any():
        raise BadInput(f"{run.name}: expected verdicts on {what}, found none")
    if over is not None:
        apart, error = crossed(values_SP)
        return Figure(run.name, what, apart, apart, error, *_size(values_SP), asked["expect"])
    shown, error = crossed(values_SP)
    value, low, high = (x - 0.5 for x in parts(shown))
    apart = Interval(value, low, high, shown.n)
    return Figure(run.name, model, shown, apart, error, *_size(values_SP), asked["expect"])


def _size(values_SP: Floats) -> tuple[str, int]:
    seeds, prompts = len(values_SP), int(np.isfinite(values_SP).any(0).sum())
    return f"{prompts} prompts" + (f" x {seeds} seeds" if seeds > 1 else ""), seeds


def _of_rows(run: KeptRun, asked: Mapping[str, Any]) -> Figure:
    """Compare a row of the summary with no effect (0, or the claim's own value of it), or with
    another row as if the two were independent.
    """
    row = run.row(*asked["row"])
    shown = _measured(run, row)
    what = " ".join((asked["row"][0], asked.get("label", asked["row"][2])))
    value, low, high = parts(shown)
    if "over_row" in asked:
        other = run.row(*asked["over_row"])
        what += f" - {asked['over_row'][0]}"
        value_of_other, low_of_other, high_of_other = parts(_measured(run, other))
        width = math.hypot(high - low, high_of_other - low_of_other) / 2
        if math.isnan(width):
            raise BadInput(f"{run.name}: expected intervals of the rows of {what}, found none")
        value = value - value_of_other
        shown = Interval(value, value - width, value + width, row["n"])
        low, high = value - width, value + width
    error = (high - low) / 2 / 1.96
    apart, none = shown, asked.get("no_effect", 0)
    if none:
        apart = Interval(value - none, low - none, high - none, row["n"])
    n, seeds = f"{row['n']:,} {asked['unit']}", len(row["seeds"])
    return Figure(run.name, what, shown, apart, error, n, seeds, asked["expect"])


def _measured(run: KeptRun, row: Mapping[str, Any]) -> Interval:
    """Return the figure of a row.

    Raises:
        BadInput: it could not be measured.
    """
    if row["value"] is None:
        name = " ".join((row["model"], row["benchmark"], row["metric"]))
        raise BadInput(f"{run.name}: expected a value of the row {name}, found none")
    return Interval(row["value"], row["low"], row["high"], row["n"])


def figures(claim: Mapping[str, Any], where: str, runs: Mapping[str, KeptRun]) -> list[Figure]:
    """Measure every figure of a claim in the sandbox or on real models."""
    return [pooled_figure(asked, runs) for asked in claim.get(where, [])]


def pooled_figure(asked: Mapping[str, Any], runs: Mapping[str, KeptRun]) -> Figure:
    """Measure one figure of a run, or of the seeds of several."""
    some = [runs[name] for name in runs_of(asked)]
    return measure(kept_runs.pool(some) if len(some) > 1 else some[0], asked)


def runs_of(asked: Mapping[str, Any]) -> list[str]:
    """Return the runs of a figure: several where their seeds are pooled."""
    return asked["run"] if isinstance(asked["run"], list) else [asked["run"]]


def claims_table(claims: Sequence[Mapping[str, Any]], runs: Mapping[str, KeptRun]) -> str:
    """Return the table of a document's claims."""
    lines = [
        "| | claim | source | published | sandbox (0.9M parameters) | verdict "
        "| real models | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for claim in claims:
        cells = [claim["id"], claim["claim"], claim["source"], claim["published"]]
        for where in ("sandbox", "real"):
            found = figures(claim, where, runs)
            if found:
                note = claim.get(f"{where}_note")
                shown = [figure.cell() for figure in found] + ([note] if note else [])
                cells += ["<br>".join(shown), "<br>".join(f.verdict_cell() for f in found)]
            else:
                missing = claim.get(f"{where}_note", "")
                if where == "real" and "study" in claim:
                    missing = f"{missing}{'; ' if missing else ''}study {claim['study']}"
                cells += [missing, "not run"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def runs_table(runs: Mapping[str, KeptRun]) -> str:
    """Return the table of runs: command, commit, seeds and time."""
    lines = ["| run | command | commit | seeds | minutes |", "|---|---|---|---|---|"]
    for name, run in runs.items():
        seeds = ", ".join(map(str, run.manifest["seeds"]))
        minutes = run.manifest["wall_seconds"] / 60
        lines.append(
            f"| `{name}` | `{run.manifest['command']}` | {run.manifest['commit'][:7]} | {seeds} "
            f"| {minutes:.0f} |"
        )
    return "\n".join(lines)


def studies_table(studies: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of studies not run, with the hours of one core that plans predict."""
    lines = ["| study | command | hours of one core (predicted) |", "|---|---|---|"]
    lines += [f"| {name} | `{s['command']}` | {s['hours']:.0f} |" for name, s in studies.items()]
    return "\n".join(lines)


def tally(every: Sequence[Mapping[str, Any]], runs: Mapping[str, KeptRun]) -> str:
    """Return the number of verdicts of each kind, and the runs behind them with their time."""
    lines = [
        "| | held | failed | undecided | not run | runs | hours |",
        "|---|---|---|---|---|---|---|",
    ]
    for where, name in (("sandbox", "sandbox"), ("real", "real models")):
        found = [figures(claim, where, runs) for claim in every]
        verdicts = [figure.verdict for some in found for figure in some]
        missing = sum(not some for some in found)
        counts = [verdicts.count(kind) for kind in ("held", "failed", "undecided")]
        behind = {run for pooled in pooled_runs(every, where) for run in pooled}
        seconds = sum(runs[run].manifest["wall_seconds"] for run in behind)
        cells = map(str, [*counts, missing, len(behind), f"{seconds / 3600:.0f}"])
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pooled_runs(every: Sequence[Mapping[str, Any]], where: str) -> list[list[str]]:
    """Return the runs of every figure in the sandbox or on real models."""
    return [runs_of(asked) for claim in every for asked in claim.get(where, [])]


def seeds_table(every: Sequence[Mapping[str, Any]], runs: Mapping[str, KeptRun]) -> str:
    """Return the table of studies on real models with figures of one seed: claims and time.

    A second seed is a run of its own, NAME_1, whether or not figures pool the two.
    """
    found: dict[str, dict[str, None]] = {}
    for claim in every:
        for pooled in pooled_runs([claim], "real"):
            if sum(len(runs[run].manifest["seeds"]) for run in pooled) == 1 and not (
                f"{pooled[0]}_1" in runs or pooled[0].endswith("_1")
            ):
                found.setdefault(pooled[0], {})[claim["id"]] = None
    single = {
        run: runs[run].manifest["wall_seconds"] / 60
        for run in sorted(found)
        if runs[run].manifest["command"].startswith("alignlab run ")
    }
    lines = ["| run | claims | minutes |", "|---|---|---|"]
    lines += [f"| `{run}` | {', '.join(found[run])} | {took:.0f} |" for run, took in single.items()]
    return "\n".join([*lines, f"| all {len(single)} | | {sum(single.values()):.0f} |"])


def tables() -> Iterator[tuple[str, str]]:
    """Yield the name and text of every table of the page.

    Raises:
        BadInput: a claim asks for a run or a figure that is not kept, or a file is broken.
    """
    known = read_claims(CLAIMS)
    folders = sorted(path for path in RUNS.glob("*") if path.is_dir())
    runs = {folder.name: kept_runs.read(folder) for folder in folders}
    every = [claim for claims in known["documents"].values() for claim in claims]
    asked_for = [asked for c in every for w in ("sandbox", "real") for asked in c.get(w, [])]
    asked_for += [
        a for study in known["controls"].values() for some in study.values() for a in some
    ]
    wanted = {name for asked in asked_for for name in runs_of(asked)}
    if missing := wanted - runs.keys():
        raise BadInput(f"{CLAIMS.name}: expected runs in {RUNS.name}, found no {sorted(missing)}")
    yield "tally", tally(every, runs)
    for name, claims in known["documents"].items():
        yield name, claims_table(claims, runs)
    yield "controls", controls_table(known["controls"], lambda asked: pooled_figure(asked, runs))
    yield "runs", runs_table(runs)
    yield "seeds", seeds_table(every, runs)
    yield "studies", studies_table(known["studies"])


def filled(page: str, found: Mapping[str, str]) -> str:
    """Return the page with its tables replaced.

    Raises:
        BadInput: the page has no place for a table.
    """
    for name, table in found.items():
        mark = MARK.format(name)
        if mark not in page:
            raise BadInput(f"{PAGE.name}: expected a line {mark}, found none")
        block = re.compile(re.escape(mark) + r"\n(?:\n(?:\|.*\n)+)?")
        page = block.sub(lambda _, text=f"{mark}\n\n{table}\n": text, page, count=1)
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    given = parser.parse_args()
    with one_line():
        printed = dict(tables())
        if given.write:
            write(PAGE, filled(read_text(PAGE), printed))
        else:
            print("\n\n".join(f"{name}\n\n{table}" for name, table in printed.items()))
