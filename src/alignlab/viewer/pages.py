"""Gather what each page shows: functions of a library and an address, without HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from alignlab.answers.libraries import reference_words
from alignlab.report import about, forest, headline, labels, plan_table
from alignlab.report.run_data import label_of, words_of
from alignlab.report.run_settings import setting_differences, settings_table
from alignlab.runs import slug
from alignlab.text import without_folders
from alignlab.types import EvalResult
from alignlab.viewer import answers, comparison, judgements, losses, people, training_data
from alignlab.viewer import training as curves
from alignlab.viewer.filters import (
    PAGE,
    AnswerFilter,
    DataFilter,
    Filter,
    JudgementFilter,
    RolloutFilter,
)
from alignlab.viewer.library import Library, RunState, check_pattern
from alignlab.viewer.words import differences

Page = dict[str, Any]

FLIPS = 200
"""Maximum number of flipped prompts shown."""


def overview(library: Library, run: RunState) -> Page:
    """Show a run's answer, its win rates with links to their rows, its stages and warnings."""
    index = library.index(run.key)
    rows = headline.comparisons(run.results, run.study.baseline)
    plot = (
        forest.single(
            rows,
            run.study.models,
            reference=headline.CHANCE,
            reference_label=f"{rows[0].against} = 50%",
            tested=run.results,
        )
        if rows
        else None
    )
    links = {r.model: AnswerFilter(model=r.model).address() for r in rows}
    table = [
        {
            "row": r,
            "verdict": headline.decided(r, run.results),
            "value": labels.number(r.value, r.metric),
            "bounds": labels.bounds(r),
            "links": {
                outcome: f"answers{AnswerFilter(model=r.model, outcome=outcome).address()}"
                for outcome in ("win", "tie", "loss", "unscored")
            },
            "tally": index.rows(
                "SELECT sum(outcome = 1), sum(outcome = 0.5), sum(outcome = 0), sum(judged > 0) "
                "FROM answers WHERE model = ?",
                (r.model,),
            )[0],
        }
        for r in rows
    ]
    judges = index.rows(
        "SELECT source, count(*) AS n FROM feedback WHERE stage LIKE '%-duel-%' "
        "OR stage LIKE '%-score-%' GROUP BY source ORDER BY n DESC"
    )
    found = headline.derive(run.results, run.study.baseline, run.study.options)
    waiting = about.left(run.manifest, [s.path for s in run.stages])
    return {
        "answer": headline.with_judge(found, run.study),
        "judge": without_folders(run.study.judge),
        "facts": about.facts(run.manifest, run.settings),
        "doubts": about.doubts(run.results, run.study.baseline),
        "left": [] if run.state == "done" else waiting,
        "report": (run.path / "report.html").exists(),
        "plot": plot,
        "links": links,
        "forest_links": {m: f"answers{a}" for m, a in links.items()},
        "table": table,
        "judges": list(dict.fromkeys(r["source"].removeprefix("score by ") for r in judges)),
        "prompts": index.one("SELECT count(DISTINCT prompt) FROM answers") or 0,
        "costs": plan_table.parts(run),
        "cheapest": plan_table.cheapest(run) if run.state == "done" else "",
        "losses": losses.by_branch(index, run.study.models),
        "stages": run.stages,
        "warnings": _warnings(index, run),
        "others": _other_figures(run, rows),
        "people": people.summary(run.path),
    }


def held_out(library: Library, run: RunState, query: Mapping[str, str]) -> Page:
    """List held-out answers, a row per prompt and a column per model."""
    asked = _read(AnswerFilter, query)
    index = library.index(run.key)
    models = answers.models(index, list(run.study.models))
    baseline = run.study.baseline if run.study.baseline in models else (models[0] if models else "")
    part, rows = answers.select(index, asked, baseline)
    focus = asked.model or baseline
    return {
        "asked": asked,
        "models": models,
        "columns": sorted(models, key=lambda m: (m != baseline, m != focus)),
        "focus": focus,
        "baseline": baseline,
        "slice": part,
        "rows": rows,
        "parts": answers.parts(index),
        "seeds": run.manifest.seeds,
        "pages": _pages(asked, part.rows),
    }


def answer(
    library: Library, run: RunState, seed: int, prompt: str, query: Mapping[str, str]
) -> Page | None:
    """Show the answers to one held-out prompt side by side; None if there is no such prompt."""
    asked = _read(AnswerFilter, {k: v for k, v in query.items() if k not in ("against", "plain")})
    index = library.index(run.key)
    found = index.rows("SELECT * FROM prompts WHERE seed = ? AND id = ?", (seed, prompt))
    models = answers.models(index, list(run.study.models))
    if not found or not models:
        return None
    baseline = run.study.baseline if run.study.baseline in models else models[0]
    before, after, place, total = answers.neighbours(index, asked, baseline, seed, prompt)
    cells = index.rows(
        "SELECT a.*, r.text, r.id, r.finish FROM answers a JOIN responses r ON r.rid = a.rid "
        "WHERE a.seed = ? AND a.prompt = ?",
        (seed, prompt),
    )
    by_model = {cell["model"]: dict(cell) for cell in cells}
    other = query.get("against", "") or baseline
    reference = by_model.get(other, {}).get("text", "")
    for model, cell in by_model.items():
        text = cell["text"]
        cell["pieces"] = differences(reference, text)[1] if model != other else [(text, False)]
        cell["verdicts"] = [
            judgements.shown(row)
            for row in index.rows(
                "SELECT f.*, NULL AS response FROM feedback f WHERE f.seed = ? AND f.first = ?",
                (seed, cell["id"]),
            )
        ]
    focus = asked.model or baseline
    order = sorted(models, key=lambda m: (m != other, m != focus, models.index(m)))
    return {
        "asked": asked,
        "prompt": {**dict(found[0]), "reference": reference_words(found[0]["reference"])},
        "turns": json.loads(found[0]["turns"]),
        "cells": [by_model[m] for m in order if m in by_model],
        "against": other,
        "focus": focus,
        "models": models,
        "before": before,
        "after": after,
        "place": place,
        "total": total,
        "seed": seed,
    }


def judged(library: Library, run: RunState, query: Mapping[str, str]) -> Page:
    """List judgements with truth, errors and spread; the confusion table leads to its rows."""
    asked = _read(JudgementFilter, query)
    index = library.index(run.key)
    part, rows = judgements.select(index, asked)
    reads = sorted({read for read, _, _ in part.confusion})
    truths = sorted({truth for _, truth, _ in part.confusion})
    cells = {(read, truth): n for read, truth, n in part.confusion}
    return {
        "asked": asked,
        "slice": part,
        "rows": rows,
        "choices": judgements.choices(index),
        "reads": reads,
        "truths": truths,
        "cells": cells,
        "calibration": _calibration(part),
        "calibration_links": {
            f"read {read}": asked.address(read=str(read), truth="") for read in reads
        },
        "most": max(cells.values(), default=1),
        "seeds": run.manifest.seeds,
        "pages": _pages(asked, part.rows),
    }


def _calibration(part: judgements.JudgementSlice) -> forest.Forest | None:
    """Plot the mean gold score of the judgements of each score read; None for fewer than two."""
    rows = [
        EvalResult(f"read {read}", "", "gold", found.value, found.low, found.high, found.n)
        for read, found in part.calibration
    ]
    if len(rows) < 2:
        return None
    notes = {row.model: f"n = {row.n:,}" for row in rows}
    return forest.single(rows, notes, reference=None, reference_label="")


def judgement(library: Library, run: RunState, fid: int) -> Page | None:
    """Show one judgement: what the judge saw, each reply, what was read; None if there is none."""
    index = library.index(run.key)
    found = judgements.one(index, fid)
    if found is None:
        return None
    found["reference"] = reference_words(found["reference"])
    return {"row": found, "people": people.of_response(run.path, found["seed"], found["first"])}


def data(library: Library, run: RunState, query: Mapping[str, str]) -> Page:
    """List pairs and demonstrations of a stage, with the share that the gold score inverts."""
    asked = _read(DataFilter, query)
    index = library.index(run.key)
    part, rows = training_data.select(index, asked)
    shown, demonstrations = (0, []) if part.rows else training_data.demonstrations(index, asked)
    return {
        "asked": asked,
        "slice": part,
        "rows": rows,
        "shown": shown,
        "demonstrations": demonstrations,
        "stages": [(one, _trains(one.stage, run)) for one in training_data.stages(index)],
        "dropped": training_data.dropped(index, asked.stage) if asked.stage else [],
        "pages": _pages(asked, part.rows or shown),
    }


def _trains(stage: str, run: RunState) -> str:
    """Return the model that a stage's data trains: of the next training in its scope."""
    names = {slug(model): model for model in run.study.models}
    scope = stage.rpartition("/")[0]
    later = sorted(s.path for s in run.stages if s.path.rpartition("/")[0] == scope)
    ends = [label_of(name).rpartition(" / ")[2] for name in later if name > stage]
    return next((names[end] for end in ends if end in names), "")


def training(library: Library, run: RunState, query: Mapping[str, str]) -> Page:
    """Draw training curves, alarms, and samples of rollouts by step."""
    return curves.page(library.index(run.key), _read(RolloutFilter, query), run.study.models)


def files(run: RunState) -> Page:
    """List a run's files with sizes, its command, configuration and versions."""
    found = [
        (path.relative_to(run.path).as_posix(), path.stat().st_size)
        for path in sorted(run.path.rglob("*"))
        if path.is_file()
        and ".alignlab-index" not in path.parts
        and path.name not in (".lock", ".lease")
    ]
    config = run.path / "config.yaml"
    return {
        "files": found,
        "config": config.read_text(encoding="utf-8") if config.exists() else "",
        "report": (run.path / "report.html").exists(),
    }


def compare(library: Library, query: Mapping[str, str]) -> Page:
    """Compare two runs: settings that differ, paired differences, prompts that flipped.

    Raises:
        BadInput: a mapping names no model of its run.
    """
    keys = [query.get("a", ""), query.get("b", "")]
    known = library.paths()
    if any(key not in known for key in keys):
        return {"ready": False, "runs": library.runs()[0], "a": keys[0], "b": keys[1]}
    mapping = comparison.read_mapping(query.get("map", ""))
    runs = [library.run(key) for key in keys]
    first, second = (comparison.Side(r.name, r.path, library.index(r.key)) for r in runs)
    pairs, unpaired = comparison.pair_models(first, second, mapping)
    chosen = next((pair for pair in pairs if pair[0] == query.get("model")), None)
    found = comparison.flips(first, second, [chosen] if chosen else pairs[::-1], most=FLIPS)
    shown = found[0] if found else None
    return {
        "ready": True,
        "a": runs[0],
        "b": runs[1],
        "map": query.get("map", ""),
        "settings": settings_table(
            [r.name for r in runs], setting_differences([r.settings for r in runs])
        ),
        "paired": comparison.paired(first, second, mapping),
        "pairs": pairs,
        "unpaired": unpaired,
        "model": chosen[0] if chosen else (shown.model if shown else ""),
        "flips": shown,
    }


def _read(cls: Any, query: Mapping[str, str]) -> Any:
    asked = cls.parse(query)
    if asked.q and asked.regex:
        check_pattern(asked.q)
    return asked


def _pages(asked: Filter, rows: int) -> Page:
    last = max(1, -(-rows // PAGE))
    return {"now": asked.page, "last": last, "rows": rows, "size": PAGE}


def _other_figures(run: RunState, compared: Sequence[Any]) -> list[Page]:
    """Return the figures over whole benchmarks that are not the main win rates."""
    shown = [r for r in run.results if r.group is None and r.value is not None]
    return [
        {
            "model": r.model,
            "what": f"{labels.benchmark(r.benchmark)}: {labels.metric(r.metric).lower()}"
            + (f", against {r.against}" if r.against else ""),
            "value": labels.number(r.value, r.metric),
            "bounds": labels.bounds(r),
            "n": r.n,
            "unscored": r.unscored,
        }
        for r in shown
        if r not in compared and not r.metric.endswith(("_p", "_p_holm"))
    ]


def _warnings(index: Any, run: RunState) -> list[Page]:
    """Return doubts about a run, each with the address of the rows behind it."""
    found: list[Page] = []

    def said(stage: str) -> str:
        return words_of(stage, run.study.models)

    for row in index.rows(
        "SELECT stage, sum(kind = 'unscored') AS lost, count(*) AS n FROM feedback GROUP BY stage "
        "HAVING lost * 20 > n"
    ):
        address = JudgementFilter(stage=row["stage"], kind="unscored").address()
        found.append(
            {
                "text": f"{said(row['stage'])}: {row['lost']:,} of {row['n']:,} judgements "
                "could not be read",
                "link": f"judgements{address}",
            }
        )
    for row in index.rows(
        "SELECT model, sum(cut) AS cut, count(*) AS n FROM answers GROUP BY model "
        "HAVING cut * 4 > n"
    ):
        found.append(
            {
                "text": f"{row['model']}: {row['cut']:,} of {row['n']:,} answers were cut off at "
                "the length limit",
                "link": f"answers{AnswerFilter(model=row['model'], flag='cut').address()}",
            }
        )
    for row in index.rows(
        "SELECT stage, sum(inverted) AS bad, count(inverted) AS n FROM pairs "
        "WHERE inverted IS NOT NULL GROUP BY stage HAVING bad * 4 > n"
    ):
        found.append(
            {
                "text": f"{_trains(row['stage'], run) or said(row['stage'])}: "
                f"{row['bad']:,} of {row['n']:,} training pairs prefer "
                "the response with the lower gold score",
                "link": f"data{DataFilter(stage=row['stage'], show='inverted').address()}",
            }
        )
    return found
