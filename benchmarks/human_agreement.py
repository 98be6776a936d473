"""How far people agree on which answer is better, and how far guesses get on the same pairs.

    python benchmarks/human_agreement.py --pandalm FILE --llmbar FILE ... --autoj FILE \\
        --xstest FILE ... [--json]

prints the agreement of PandaLM's three annotators beside the figures its authors give, that of
XSTest's two on refusals, and, for every set of pairs, the guesses that a judge has to beat: a coin,
and "the longer answer wins" (characters). Agreement counts three verdicts (first, second, tie);
accuracy leaves human ties out and counts a guess's ties half. All rows count, repeated and empty
answers too, as in the published figures. Intervals resample prompts.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table

from alignlab.data.judged_pairs import (
    FIRST,
    SECOND,
    TIE,
    JudgedPair,
    autoj_pair,
    llmbar_pair,
    pandalm_pair,
    read_judged_pairs,
)
from alignlab.data.read import Faults, read_table
from alignlab.data.xstest import labels_of
from alignlab.errors import BadInput
from alignlab.evaluation.annotators import Scale, agreement
from alignlab.evaluation.metrics.intervals import Interval, bootstrap_mean
from alignlab.seeds import generator

KAPPA_PUBLISHED = {(1, 2): 0.85, (1, 3): 0.88, (2, 3): 0.86}
"""PandaLM's README (WeOpenML/PandaLM): Cohen's kappa of every two annotators."""
LABELS_PUBLISHED = {TIE: 105, FIRST: 422, SECOND: 472}
"""The same page's distribution of labels over its 999 pairs."""


@dataclass(frozen=True)
class Row:
    """One figure."""

    data: str
    what: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    published: float | None = None


def row(data: str, what: str, figure: Interval, published: float | None = None) -> Row:
    """A figure with its interval."""
    return Row(data, what, figure.value, figure.low, figure.high, figure.n, published)


def annotators(name: str, pairs: Sequence[JudgedPair], seed: int) -> list[Row]:
    """Agreement of several annotators, and how their majority votes."""
    votes_NA = np.array([pair.votes for pair in pairs])
    prompts = [pair.prompt for pair in pairs]
    published_kappas = KAPPA_PUBLISHED if name == "pandalm" else {}
    rows = agreements(name, votes_NA, "preferences", prompts, published_kappas, seed=seed)
    found = Counter(pair.majority for pair in pairs)
    for vote, what in ((TIE, "ties"), (FIRST, "first better"), (SECOND, "second better")):
        published = LABELS_PUBLISHED[vote] if name == "pandalm" else None
        figure = Interval(float(found[vote]), None, None, len(pairs))
        rows.append(row(name, f"majority: {what}", figure, published))
    return rows


def agreements(
    name: str,
    values_NA: ArrayLike,
    scale: Scale,
    prompts: Sequence[str],
    published: Mapping[tuple[int, ...], float],
    *,
    seed: int,
) -> list[Row]:
    """Every measure of agreement for a table of annotators' answers."""
    values = np.asarray(values_NA)
    names = [str(number) for number in range(1, values.shape[1] + 1)]
    rows = []
    for one in agreement(values, names, scale, prompts_N=prompts, seed=seed):
        if not one.what.startswith("Cohen"):
            rows.append(row(name, one.what, one.figure))
            continue
        known = published.get(tuple(map(int, one.between)))
        who = " and ".join(one.between)
        rows.append(row(name, f"{one.what}, annotators {who}", one.figure, known))
    return rows


def refusals(path: str, seed: int) -> list[Row]:
    """Agreement of XSTest's two annotators on whether a completion refuses."""
    found = read_table(path, Faults()).rows
    labels_NA = [labels_of(each) for each in found]
    prompts = [each.text("prompt") for each in found]
    return agreements(Path(path).name.split(".")[0], labels_NA, "labels", prompts, {}, seed=seed)


def longer(pair: JudgedPair) -> float:
    """The longer answer wins; equal lengths tie."""
    apart = len(pair.first.text) - len(pair.second.text)
    return FIRST if apart > 0 else SECOND if apart < 0 else TIE


def guesses(name: str, pairs: Sequence[JudgedPair], seed: int) -> list[Row]:
    """Agreement and accuracy of a coin and of "the longer wins"."""
    rng = generator(seed, "coin", name)
    coin = rng.integers(0, 2, len(pairs)).astype(np.float64)
    human = np.array([pair.majority for pair in pairs])
    guessed = {"coin": coin, "longer wins": np.array([longer(pair) for pair in pairs])}
    prompts = np.array([pair.prompt for pair in pairs])
    rows = []
    for guess, said in guessed.items():
        if (human == TIE).any():
            agrees = bootstrap_mean(said == human, prompts_N=prompts.tolist(), seed=seed)
            rows.append(row(name, f"{guess}: agreement", agrees))
        decided = human != TIE
        right = 1 - np.abs(said - human)[decided]
        figure = bootstrap_mean(right, prompts_N=prompts[decided].tolist(), seed=seed)
        rows.append(row(name, f"{guess}: accuracy", figure))
    return rows


def measured(name: str, path: str, compared: Callable, seed: int) -> list[Row]:
    """Everything that a file shows."""
    pairs = read_judged_pairs(path, compared)
    several = len(pairs[0].votes) > 1
    return (annotators(name, pairs, seed) if several else []) + guesses(name, pairs, seed)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pandalm", help="testset-v1.json")
    parser.add_argument("--llmbar", nargs="*", default=[], help="LLMBar's files, each a set")
    parser.add_argument("--autoj", help="testdata_pairwise.jsonl")
    parser.add_argument("--xstest", nargs="*", default=[], help="XSTest's completions, by model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="rows for a machine")
    chosen = parser.parse_args()
    sets = [("pandalm", chosen.pandalm, pandalm_pair)] if chosen.pandalm else []
    sets += [(Path(path).name.split(".")[0], path, llmbar_pair) for path in chosen.llmbar]
    sets += [("autoj", chosen.autoj, autoj_pair)] if chosen.autoj else []
    if not sets and not chosen.xstest:
        parser.error("expected --pandalm, --llmbar, --autoj or --xstest with a file")
    try:
        rows = [each for name, path, of in sets for each in measured(name, path, of, chosen.seed)]
        rows += [each for path in chosen.xstest for each in refusals(path, chosen.seed)]
    except BadInput as error:
        parser.exit(2, f"{error}\n")
    if chosen.json:
        print(json.dumps({"rows": [asdict(each) for each in rows]}, indent=1))
        return
    table = Table(box=None)
    for number, head in enumerate(("data", "", "value", "95%", "n", "published")):
        table.add_column(head, justify="right" if number > 1 else "left")
    for each in rows:
        between = "" if each.low is None else f"{each.low:.3f} to {each.high:.3f}"
        value = f"{each.value:.0f}" if each.low is None else f"{each.value:.3f}"
        published = "" if each.published is None else f"{each.published:g}"
        table.add_row(each.data, each.what, value, between, f"{each.n:,}", published)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
