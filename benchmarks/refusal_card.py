"""Measure how far rules that find refusals agree with people, on XSTest's completions.

    python benchmarks/refusal_card.py completions_gpt4.csv completions_llama2new.csv ...
    python benchmarks/refusal_card.py completions_gpt4.csv ... --judge local:MODEL --limit 150

Two annotators label every completion: compliance, refusal, or refusal in part, which counts as a
refusal here. The rules: a phrase of refusal anywhere, a phrase within the first 100 characters, and
fewer words than half of the file's completions; with `--judge`, a model that is asked as the
benchmark `xstest` asks it (completions without a verdict are left out). The second annotator
against the first is the line to reach. Over-refusal is the share of the 250 safe prompts that are
refused; people's is by the final label. Intervals resample prompts (95%); an agreement that is the
same for all prompts has Wilson's, a kappa or difference that resampling cannot vary has none.
Markdown tables; `-` stands where nothing could be measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

from checked_files import one_line
from refusal_rules import opening, phrase

from alignlab.data.read import Faults, read_table
from alignlab.data.rows import Row
from alignlab.data.xstest import LABELS, labels_of
from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.xstest import classify
from alignlab.evaluation.metrics.agreement import cohen_kappa
from alignlab.evaluation.metrics.intervals import Floats, Interval, bootstrap_mean
from alignlab.generation.engines import completer
from alignlab.protocols import Completer
from alignlab.types import Message, Prompt, Response, SampledBy, Score

FROM_FILE = SampledBy("file")


def rules(texts: Sequence[str]) -> dict[str, Floats]:
    """Return rule -> 1 for every text that it calls a refusal."""
    words = np.array([len(text.split()) for text in texts])
    return {
        "phrase": np.array([phrase(text) for text in texts]),
        "phrase in the opening": np.array([opening(text) for text in texts]),
        "short": (words < np.median(words)).astype(float),
    }


def judged(rows: Sequence[Row], judge: Completer, seed: int) -> Floats:
    """Return 1 for every completion that a judge finds to refuse, NaN where it gives no verdict."""
    answered = [
        (
            Prompt(str(i), (Message("user", row.text("prompt")),)),
            Response(str(i), str(i), row.text("completion"), FROM_FILE),
        )
        for i, row in enumerate(rows)
    ]
    verdicts = [feedback.verdict for feedback in classify(judge, answered, seed)]
    return np.array([v.value if isinstance(v, Score) else np.nan for v in verdicts])


def table(name: str, rows: Sequence[Row], seed: int, judge: Completer | None = None) -> list[str]:
    """Return the lines of one model's completions.

    Raises:
        BadInput: a label is unknown, or a prompt or its type is blank.
    """
    for row in rows:
        refuse_blank(row, "prompt")
        refuse_blank(row, "type")
        if row.text("final_label") not in LABELS:
            raise row.bad("final_label", "one of " + ", ".join(LABELS))
    both = np.array([labels_of(row) for row in rows]) > 0
    first, second = both.T.astype(float)
    final = np.array([float(LABELS.index(row.text("final_label")) > 0) for row in rows])
    safe = np.array([not row.text("type").startswith("contrast_") for row in rows])
    prompts = [row.text("prompt") for row in rows]
    found = {"second annotator": second, **rules([row.text("completion") for row in rows])}
    if judge is not None:
        found[judge.name] = judged(rows, judge, seed)
    return [
        f"| {name} | {rule} | "
        + line(refused, first if rule == "second annotator" else final, safe, prompts, seed)
        for rule, refused in found.items()
    ]


def refuse_blank(row: Row, field: str) -> None:
    """Refuse a row with a blank field.

    Raises:
        BadInput: the field is missing or blank.
    """
    if not row.text(field).strip():
        raise row.bad(field, "a text")


def line(
    refused: Floats, people: Floats, safe: npt.NDArray[np.bool_], prompts: list[str], seed: int
) -> str:
    """Return the figures of one rule; completions without a verdict are left out."""
    known = np.isfinite(refused)
    refused, people, safe = refused[known], people[known], safe[known]
    asked = [prompt for prompt, is_known in zip(prompts, known, strict=True) if is_known]
    cells = (
        shown(bootstrap_mean(refused == people, prompts_N=asked, seed=seed, is_share=True)),
        shown(cohen_kappa(people, refused, prompts_N=asked, seed=seed)),
        f"{people[safe].mean():.3f}" if safe.any() else "-",
        f"{refused[safe].mean():.3f}" if safe.any() else "-",
        shown(bootstrap_mean((refused - people)[safe], seed=seed), signed=True),
    )
    return f"{' | '.join(cells)} | {len(refused)} | {safe.sum()} |"


def shown(figure: Interval, *, signed: bool = False) -> str:
    """Format a figure with its interval, if resampling can vary it."""
    if figure.value is None:
        return "-"
    sign = "+" if signed else ""
    value = f"{figure.value:{sign}.3f}"
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return value
    return f"{value} [{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("completions", nargs="+", help="XSTest's completions, by model")
    parser.add_argument("--judge", default="", help="engine that is asked too")
    parser.add_argument("--limit", type=int, default=0, help="completions of each file, drawn")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    lines = [
        "| completions | rule | agreement with people | Cohen's kappa | over-refusal by people "
        "| by the rule | difference | n | safe |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with one_line():
        if given.limit < 0:
            raise BadInput(f"--limit: expected 0 (all) or more, found {given.limit}")
        every = {path: completions(path) for path in given.completions}
        judge = completer(given.judge) if given.judge else None
        for path, rows in every.items():
            name = Path(path).stem.removeprefix("completions_")
            if 0 < given.limit < len(rows):
                rows = Random(given.seed).sample(rows, given.limit)
            lines += table(name, rows, given.seed, judge)
    print("\n".join(lines))


def completions(path: str) -> Sequence[Row]:
    """Read a model's completions.

    Raises:
        BadInput: there is no such file, or it cannot be read.
    """
    if not Path(path).is_file():
        raise BadInput(f"{path}: expected a file, found none")
    return read_table(path, Faults(stop=True)).rows


if __name__ == "__main__":
    main()
