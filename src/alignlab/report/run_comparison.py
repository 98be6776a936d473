"""Compare several runs on one page: one row per figure, one column per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alignlab.errors import BadInput
from alignlab.files import write_text
from alignlab.report import forest, headline, labels, tax_table
from alignlab.report.forest import Forest
from alignlab.report.headline import CHANCE, Headline
from alignlab.report.labels import duration
from alignlab.report.page import environment
from alignlab.report.policy import with_policy
from alignlab.report.run_data import RunData, read_run
from alignlab.report.run_settings import read_settings, setting_differences, settings_table
from alignlab.report.tables import Cell, ReportTable
from alignlab.types import EvalResult, Paired

FIGURES = (
    ("win_rate", CHANCE, "one half"),
    ("mean", None, ""),
    ("pairwise_accuracy_ties_half", CHANCE, "chance"),
    ("spearman", 0.0, "chance"),
)
"""Metrics that are drawn, with reference line and name."""


@dataclass(frozen=True)
class ComparedRun:
    """Run, as listed in the page's head."""

    name: str
    recipe: str
    seeds: str
    time: str
    command: str
    answer: Headline


@dataclass(frozen=True)
class NamedTable:
    """Rows of one benchmark, one column per run."""

    title: str
    table: ReportTable


@dataclass(frozen=True)
class FlippedPrompt:
    """Prompt that a judge judged otherwise in the second run than in the first."""

    question: str
    before: str
    """Answer in the first run."""
    after: str
    """Answer in the second run."""
    old: float
    new: float
    """Scores, or outcomes against a common baseline: 1 a win, 0.5 a tie, 0 a loss."""


@dataclass(frozen=True)
class Flips:
    """Prompts on which the verdicts of two models differ, the largest changes first."""

    model: str
    """Model of the first run."""
    other: str
    """Model of the second run."""
    by: str
    """Kind of verdict and judge: "scores by sandbox:oracle"."""
    shared: int
    """Number of prompts judged in both runs."""
    up: int
    """Number of prompts judged higher in the second run."""
    down: int
    rows: tuple[FlippedPrompt, ...]

    @property
    def name(self) -> str:
        """Name of the model, or of both if they differ."""
        return self.model if self.model == self.other else f"{self.model} and {self.other}"

    def __str__(self) -> str:
        changed = f"{self.up + self.down:,} of {self.shared:,} prompts differ"
        return f"{self.name}: {changed}, {self.up:,} higher and {self.down:,} lower ({self.by})"


def compare_runs(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    paired: Sequence[Paired] = (),
    flips: Sequence[Flips] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write one page that compares the rows of several runs; return its path.

    Args:
        paths: run directories, two or more.
        out: the page's path; by default `compare.html` next to the first run.
        paired: differences by prompt, tested if the runs share prompts.
        flips: prompts that flipped, of each pair of models.
        notes: sentences on models that were not compared.

    Raises:
        BadInput: fewer than two runs, one run twice, or a folder that is no run.
    """
    if len(paths) < 2:
        raise BadInput(f"compare: expected two or more run directories, found {len(paths)}")
    if len({p.resolve() for p in paths}) < len(paths):
        raise BadInput("compare: expected different run directories, found one twice")
    runs = [read_run(path) for path in paths]
    names = run_names(paths)
    page = out or paths[0].resolve().parent / "compare.html"
    html = (
        environment()
        .get_template("compare.html.j2")
        .render(
            runs=[_compared(name, run) for name, run in zip(names, runs, strict=True)],
            settings=settings_table(names, setting_differences([read_settings(p) for p in paths])),
            flips=flips,
            notes=notes,
            figures=_figures(names, runs),
            tables=_tables(names, runs),
            paired=paired_table(paired),
            finding=finding(paired),
            reasons=[f"{p.first} and {p.second}: {p.reason}" for p in paired if p.reason],
            trades=_trades(names, runs),
            title=" and ".join(names) if len(names) == 2 else f"{len(names)} runs",
        )
    )
    write_text(page, with_policy(html))
    return page


def paired_table(paired: Sequence[Paired]) -> ReportTable | None:
    """Tabulate tested differences with their verdicts; None if nothing could be compared."""
    tested = [p for p in paired if not p.reason]
    if not tested:
        return None
    return ReportTable(
        corner="First less second",
        columns=("metric", "difference", "prompts", "p", "p, adjusted (Holm)", "verdict"),
        names=tuple(f"{p.first} − {p.second}" for p in tested),
        rows=tuple(_difference(p) for p in tested),
    )


def finding(paired: Sequence[Paired]) -> str:
    """State which tested differences stand after correction for their number.

    Empty if nothing could be tested.
    """
    tested = [p for p in paired if not p.reason]
    if not tested:
        return ""
    found = [p for p in tested if verdict(p) != "not distinguishable"]
    number = f"{len(tested)} paired difference{'s' if len(tested) > 1 else ''}"
    if not found:
        return f"None of {number} stands after correction for their number (Holm)."
    stand = "; ".join(
        f"{p.first} is {verdict(p)} than {p.second} ({labels.metric(p.metric).lower()} "
        f"{labels.number(p.value, 'difference')})"
        for p in found
    )
    return f"{len(found)} of {number} stand{'s' if len(found) == 1 else ''}: {stand}."


def _difference(pair: Paired) -> tuple[Cell, ...]:
    row = EvalResult("", pair.benchmark, "difference", pair.value, pair.low, pair.high, 0)
    figures = (labels.number(p, "p-value") for p in (pair.p, pair.p_holm))
    return (
        Cell(f"{labels.benchmark(pair.benchmark)}: {labels.metric(pair.metric).lower()}"),
        Cell(labels.number(pair.value, "difference"), labels.bounds(row)),
        Cell(f"{pair.prompts:,}"),
        *map(Cell, figures),
        Cell(verdict(pair)),
    )


def verdict(pair: Paired) -> headline.Standing:
    """Classify a difference by its interval and its adjusted p-value."""
    if pair.p_holm is None or pair.p_holm > headline.LEVEL:
        return "not distinguishable"
    row = EvalResult("", pair.benchmark, "difference", pair.value, pair.low, pair.high, 0)
    return headline.standing(row, 0.0)


def _trades(names: Sequence[str], runs: Sequence[RunData]) -> list[NamedTable]:
    """Pair win rates of each run with task scores of its own and of runs without win rates.

    Two runs with win rates may use one name for different models, so they are never mixed.
    """
    compares = {
        name: {r.against for r in run.results if r.metric == "win_rate" and r.against}
        for name, run in zip(names, runs, strict=True)
    }
    pairs = list(zip(names, runs, strict=True))
    others = [r for name, run in pairs if not compares[name] for r in run.results]
    found = [
        (f"{name}, against {baseline}", tax_table.trade([*run.results, *others], baseline))
        for name, run in pairs
        for baseline in sorted(compares[name])
    ]
    return [NamedTable(title, one.table) for title, one in found if one is not None]


def run_names(paths: Sequence[Path]) -> list[str]:
    """Name runs by folder, prefixed by the parent folder if two names are equal."""
    short = [p.resolve().name for p in paths]
    return [
        name if short.count(name) == 1 else "/".join(path.resolve().parts[-2:])
        for name, path in zip(short, paths, strict=True)
    ]


def _compared(name: str, run: RunData) -> ComparedRun:
    return ComparedRun(
        name=name,
        recipe=run.manifest.recipe,
        seeds=", ".join(map(str, run.manifest.seeds)),
        time=duration(run.wall_seconds),
        command=run.manifest.command,
        answer=headline.derive(run.results, run.study.baseline),
    )


def _figures(names: Sequence[str], runs: Sequence[RunData]) -> list[Forest]:
    """Build one plot per metric and benchmark, a series per run."""
    found = []
    for metric, reference, reference_label in FIGURES:
        rows = {
            name: [r for r in run.results if r.metric == metric and r.group is None]
            for name, run in zip(names, runs, strict=True)
        }
        every = [r for some in rows.values() for r in some if r.value is not None]
        for benchmark in dict.fromkeys(r.benchmark for r in every):
            series = {
                name: [r for r in some if r.benchmark == benchmark and r.value is not None]
                for name, some in rows.items()
            }
            found.append(
                forest.several(
                    series,
                    {},
                    reference=reference,
                    reference_label=reference_label,
                    title=f"{labels.metric(metric)} · {labels.benchmark(benchmark).lower()}",
                )
            )
    return found


def _tables(names: Sequence[str], runs: Sequence[RunData]) -> list[NamedTable]:
    """Tabulate all rows, by benchmark."""
    benchmarks = dict.fromkeys(r.benchmark for run in runs for r in run.results)
    return [
        NamedTable(labels.benchmark(name), _side_by_side(name, names, runs)) for name in benchmarks
    ]


def _side_by_side(benchmark: str, names: Sequence[str], runs: Sequence[RunData]) -> ReportTable:
    keyed = [{_key(r): r for r in run.results if r.benchmark == benchmark} for run in runs]
    keys = list(dict.fromkeys(key for rows in keyed for key in rows))
    return ReportTable(
        corner="Model and metric",
        columns=tuple(names),
        names=tuple(_words(key) for key in keys),
        rows=tuple(tuple(_cell(rows.get(key)) for rows in keyed) for key in keys),
    )


def _key(row: EvalResult) -> EvalResult:
    """Return the fields that identify a row across runs: all but the figures."""
    return replace(row, value=None, low=None, high=None, n=0, unscored=0, seeds=())


def _words(key: EvalResult) -> str:
    against = f" against {key.against}" if key.against else ""
    part = f", {labels.group(key.group)}" if key.group else ""
    return f"{key.model}: {labels.metric(key.metric).lower()}{against}{part}"


def _cell(row: EvalResult | None) -> Cell:
    if row is None:
        return Cell("–")
    return Cell(labels.number(row.value, row.metric), labels.bounds(row))
