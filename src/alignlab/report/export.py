"""Export every figure of a run as CSV, Markdown or LaTeX, with interval, n, unscored, verdict."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from alignlab.report import headline, labels
from alignlab.report.run_data import read_run
from alignlab.types import EvalResult

Format = Literal["csv", "latex", "markdown"]
COLUMNS = (
    "model", "benchmark", "metric", "part", "against", "value", "low", "high", "n", "unscored",
    "seeds", "comparable", "verdict",
)  # fmt: skip
_Table = tuple[str, list[str], list[list[str]]]
"""Title, heads and lines."""
_DIGITS = 6
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    ">": r"\textgreater{}", "<": r"\textless{}", "|": r"\textbar{}",
}  # fmt: skip


def export(run_dir: Path, form: Format) -> str:
    """Export every row that the report shows, with verdicts by p-values adjusted per table.

    CSV holds figures to six digits; Markdown and LaTeX tables have one line per figure and one
    table per benchmark. LaTeX needs the packages booktabs and longtable.

    Raises:
        BadInput: not a run directory, or a record in it cannot be read.
    """
    results = read_run(run_dir).results
    if form == "csv":
        return _csv(results)
    return (_markdown if form == "markdown" else _latex)(_tables(results))


def compact(run_dir: Path, form: Literal["latex", "markdown"]) -> str:
    """Export the win rates against the baseline: model, win rate, 95% interval, verdict.

    Verdicts are the headline's. Empty for a run without win rates.

    Raises:
        BadInput: not a run directory, or a record in it cannot be read.
    """
    run = read_run(run_dir)
    rows = headline.comparisons(run.results, run.study.baseline)
    if not rows:
        return ""
    lines = [
        [
            row.model,
            labels.number(row.value, row.metric),
            labels.bounds(row),
            headline.decided(row, run.results),
        ]
        for row in sorted(rows, key=lambda r: -(r.value or 0))
    ]
    sizes = sorted({r.n for r in rows})
    n = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    title = f"Win rate against {rows[0].against or run.study.baseline}, n = {n}"
    table = (title, ["model", "win rate", "95% interval", "verdict"], lines)
    return (_markdown if form == "markdown" else _latex)([table])


def _csv(results: Sequence[EvalResult]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(row, results) for row in results)
    return text.getvalue()


def _cells(row: EvalResult, results: Sequence[EvalResult]) -> list[str]:
    figures = [_figure(v, _DIGITS) for v in (row.value, row.low, row.high)]
    comparable = {True: "yes", False: "no", None: ""}[row.comparable]
    seeds = " ".join(map(str, row.seeds))
    about = [row.model, row.benchmark, row.metric, row.group or "", row.against or ""]
    verdict = headline.verdict(row, results) or ""
    return [*about, *figures, str(row.n), str(row.unscored), seeds, comparable, verdict]


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def _tables(results: Sequence[EvalResult]) -> list[_Table]:
    """Return title, heads and lines of every benchmark, without empty columns."""
    found = []
    for name in dict.fromkeys(r.benchmark for r in results):
        lines = [_line(r, results) for r in results if r.benchmark == name]
        heads = ["model", "metric", "part", "against", "value", "95% interval", "n", "unscored"]
        heads += ["comparable", "verdict"]
        kept = [i for i in range(len(heads)) if any(line[i] for line in lines)]
        shown = [[line[i] for i in kept] for line in lines]
        found.append((name, [heads[i] for i in kept], shown))
    return found


def _line(row: EvalResult, results: Sequence[EvalResult]) -> list[str]:
    cells = dict(zip(COLUMNS, _cells(row, results), strict=True))
    value, low, high = (_figure(v, 4) for v in (row.value, row.low, row.high))
    between = f"{low} to {high}" if low and high else ""
    about = [cells[c] for c in ("model", "metric", "part", "against")]
    return [
        *about,
        value or "-",
        between,
        *(cells[c] for c in ("n", "unscored", "comparable", "verdict")),
    ]


def _markdown(tables: Sequence[_Table]) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    parts = []
    for title, heads, lines in tables:
        rule = "|" + "---|" * len(heads)
        parts.append("\n".join([f"**{title}**", "", row(heads), rule, *map(row, lines)]))
    return "\n\n".join(parts) + "\n"


def _latex(tables: Sequence[_Table]) -> str:
    def row(cells: Sequence[str]) -> str:
        return " & ".join(map(_escaped, cells)) + r" \\"

    parts = []
    for title, heads, lines in tables:
        sides = "".join("r" if h in ("value", "win rate", "n", "unscored") else "l" for h in heads)
        begin = [rf"\begin{{longtable}}{{{sides}}}", rf"\caption{{{_escaped(title)}}} \\"]
        head = [r"\toprule", row(heads), r"\midrule", r"\endhead"]
        end = [r"\bottomrule", r"\end{longtable}"]
        parts.append("\n".join([*begin, *head, *map(row, lines), *end]))
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
