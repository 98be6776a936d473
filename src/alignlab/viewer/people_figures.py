"""Compute the figures of people's ratings: win rates, corrected win rates, agreement."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alignlab.evaluation.metrics.agreement import cohen_kappa, raw_agreement
from alignlab.evaluation.metrics.intervals import Interval
from alignlab.evaluation.metrics.prediction_powered import powered_mean
from alignlab.evaluation.metrics.win_rate import Outcome, win_rate
from alignlab.files import write_text
from alignlab.records import to_line
from alignlab.report import judge_sections
from alignlab.report.run_data import PEOPLE
from alignlab.seeds import derive
from alignlab.types import EvalResult
from alignlab.viewer.index import Index
from alignlab.viewer.people import Rating, RatingTask, inside, ratings, tasks

BENCHMARK = judge_sections.PEOPLE


def agreement(
    run: Path, index: Index, made: RatingTask, annotator: str = ""
) -> list[dict[str, Any]]:
    """Compare ratings with each judge of the run and with other annotators.

    Returns:
        Partner, share of equal verdicts with its interval, Cohen's kappa, and n.
    """
    mine = [r for r in ratings(run) if r.task == made.name]
    own = {r.item: _number(r) for r in mine if r.annotator == annotator or not annotator}
    found = []
    for name, verdicts in _judges(index, made).items():
        found.append(_agree(f"judge: {name}", own, verdicts, made))
    for other in sorted({r.annotator for r in mine} - {annotator}):
        if annotator:
            theirs = {r.item: _number(r) for r in mine if r.annotator == other}
            found.append(_agree(other, own, theirs, made))
    return [row for row in found if row["n"]]


def disagreement(run: Path, index: Index, made: RatingTask, annotator: str) -> dict[str, float]:
    """Return how far apart judges and other annotators are on each item of a task.

    An item with fewer than two verdicts is left out; labels and words are alike or not.
    """
    verdicts: dict[str, list[float]] = {}
    for by_item in _judges(index, made).values():
        for item, verdict in by_item.items():
            verdicts.setdefault(item, []).append(verdict)
    for rating in ratings(run):
        if rating.task == made.name and rating.annotator != annotator:
            verdicts.setdefault(rating.item, []).append(_number(rating))
    in_numbers = made.form in ("pair", "scale")
    return {
        item: max(several) - min(several) if in_numbers else float(len(set(several)) > 1)
        for item, several in verdicts.items()
        if len(several) > 1
    }


def write_figures(run: Path, index: Index) -> list[EvalResult]:
    """Compute win rates by people and agreement with judges, and write them for the report."""
    rows: list[EvalResult] = []
    every = ratings(run)
    for made in tasks(run):
        of_task = [r for r in every if r.task == made.name]
        if made.form == "pair" and of_task:
            rows += [*_win_rates(made, of_task), *_corrected(index, made, of_task)]
        for row in agreement(run, index, made):
            rows.append(
                EvalResult(
                    row["partner"], BENCHMARK, "agreement", row["share"].value, row["share"].low,
                    row["share"].high, row["n"], group=f"task:{made.name}",
                )
            )  # fmt: skip
    path = inside(run, run / PEOPLE)
    path.parent.mkdir(exist_ok=True)
    write_text(path, "".join(map(to_line, rows)))
    return rows


def _win_rates(made: RatingTask, given: Iterable[Rating]) -> list[EvalResult]:
    by_model: dict[str, list[Outcome]] = {}
    items = {i.item: i for i in made.items}
    for rating in given:
        item = items[rating.item]
        value = {0: 1.0, 1: 0.0}.get(rating.value, 0.5)
        by_model.setdefault(item.models[0], []).append(Outcome(item.cluster, value, item.seed))
    found = []
    for model, outcomes in by_model.items():
        rate = win_rate(outcomes)
        found.append(
            EvalResult(
                model, BENCHMARK, "win_rate", rate.rate.value, rate.rate.low, rate.rate.high,
                rate.rate.n, rate.unscored, made.baseline,
            )
        )  # fmt: skip
    return found


def _corrected(index: Index, made: RatingTask, given: Sequence[Rating]) -> list[EvalResult]:
    """Correct the judge's win rates by people's ratings, by prediction-powered inference.

    Nothing where the rated prompts are no random sample: a filter chose them, or some are open.
    """
    if not made.drawn or {r.item for r in given} != {i.item for i in made.items}:
        return []
    people: dict[tuple[str, str, int], list[float]] = {}
    items = {i.item: i for i in made.items}
    for rating in given:
        item = items[rating.item]
        key = item.models[0], item.cluster, item.seed
        people.setdefault(key, []).append(_number(rating))
    found = []
    for model in dict.fromkeys(i.models[0] for i in made.items):
        judged = index.rows(
            "SELECT a.outcome, a.seed, p.cluster FROM answers a "
            "JOIN prompts p ON p.seed = a.seed AND p.id = a.prompt "
            "WHERE a.model = ? AND (a.outcome IS NOT NULL OR a.judged)",
            (model,),
        )
        labels = [people.get((model, row["cluster"], row["seed"])) for row in judged]
        mean = powered_mean(
            [math.nan if row["outcome"] is None else row["outcome"] for row in judged],
            [math.nan if one is None else sum(one) / len(one) for one in labels],
            prompts_N=[row["cluster"] for row in judged],
        ).corrected
        found.append(
            EvalResult(
                model, BENCHMARK, "win_rate_corrected", mean.value, mean.low, mean.high, mean.n,
                0, made.baseline,
            )
        )  # fmt: skip
    return found


def _judges(index: Index, made: RatingTask) -> dict[str, dict[str, float]]:
    """Return each judge's verdicts on a task's items, as numbers that ratings compare with."""
    found: dict[str, dict[str, float]] = {}
    for item in made.items:
        first = item.responses[0]
        second = item.responses[1] if made.form == "pair" else None
        for row in index.rows(
            "SELECT source, kind, value, winner, second FROM feedback WHERE seed = ? AND first = ? "
            "AND (second IS ? OR second IS NULL)",
            (item.seed, first, second),
        ):
            if made.form == "pair" and row["kind"] == "preference":
                verdict = 0.5 if row["winner"] is None else float(row["winner"] == 0)
            elif made.form == "scale" and row["kind"] == "score":
                verdict = float(round(row["value"]))
            else:
                continue
            found.setdefault(row["source"], {})[item.item] = verdict
    return found


def _number(rating: Rating) -> float:
    if rating.form == "pair":
        return {0: 1.0, 1: 0.0}.get(rating.value, 0.5)
    if isinstance(rating.value, int | float):
        return float(rating.value)
    return float(derive(json.dumps(rating.value)) % 2**52)


def _agree(
    name: str, own: Mapping[str, float], theirs: Mapping[str, float], made: RatingTask
) -> dict[str, Any]:
    both = [i for i in made.items if i.item in own and i.item in theirs]
    mine, other = [own[i.item] for i in both], [theirs[i.item] for i in both]
    clusters = [i.cluster for i in both]
    nothing = Interval(None, None, None, 0)
    return {
        "partner": name,
        "n": len(both),
        "share": raw_agreement(list(zip(mine, other, strict=True)), prompts_N=clusters)
        if both
        else nothing,
        "kappa": cohen_kappa(mine, other, prompts_N=clusters) if both else nothing,
    }
