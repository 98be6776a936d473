"""Rate responses in the browser: tasks from a filter, blind items, agreement as it grows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alignlab.errors import BadInput
from alignlab.seeds import derive
from alignlab.viewer import answers, people, people_figures
from alignlab.viewer.filters import AnswerFilter, refuse_unknown
from alignlab.viewer.index import Index
from alignlab.viewer.library import Library, RunState
from alignlab.viewer.people import RatingTask

MOST_ITEMS = 5000
"""Maximum number of prompts of a task."""
FEW = 10
"""Number of own ratings before which agreement is not shown, so that it does not steer."""


def overview(library: Library, run: RunState, query: Mapping[str, str]) -> dict[str, Any]:
    """Show the tasks of a run with their progress, and a form for a new one."""
    index = library.index(run.key)
    asked = AnswerFilter.parse(query)
    models = answers.models(index, list(run.study.models))
    baseline = run.study.baseline if run.study.baseline in models else (models or [""])[0]
    rated = people.ratings(run.path)
    part, _ = answers.select(index, asked, baseline)
    return {
        "asked": asked,
        "models": models,
        "baseline": baseline,
        "matching": part.rows,
        "forms": people.FORMS,
        "figures": people.summary(run.path),
        "tasks": [
            {
                "task": made,
                "by": {
                    name: sum(r.task == made.name and r.annotator == name for r in rated)
                    for name in sorted({r.annotator for r in rated if r.task == made.name})
                },
                "agreement": people_figures.agreement(run.path, index, made),
            }
            for made in people.tasks(run.path)
        ],
    }


def create(library: Library, run: RunState, body: Mapping[str, Any]) -> RatingTask:
    """Make a task of the prompts that a filter of the answers page selects.

    Raises:
        BadInput: a filter, form, number or model that does not exist.
    """
    index = library.index(run.key)
    models = answers.models(index, list(run.study.models))
    baseline = run.study.baseline if run.study.baseline in models else (models or [""])[0]
    asked = AnswerFilter.parse({k: str(v) for k, v in (body.get("filter") or {}).items()})
    number = body.get("number", 50)
    if type(number) is not int or not 0 < number <= MOST_ITEMS:
        raise BadInput(f"number: expected 1 to {MOST_ITEMS}, found {number!r}")
    form = body.get("form", "pair")
    chosen = body.get("models") or [m for m in (asked.model, baseline) if m]
    if unknown := [m for m in chosen if m not in models]:
        raise BadInput(f"models: expected some of {', '.join(models)}, found {unknown[0]!r}")
    chosen = sorted(chosen, key=lambda m: m == baseline)  # judges compare models with it
    where = answers.conditions(asked, baseline)
    keys = [
        (row[0], row[1])
        for row in index.rows(f"SELECT a.seed, a.prompt{answers.FROM}{where.sql}", where.values)
    ]
    drawn = sorted(keys, key=lambda k: derive("task", *k))[:number]
    return people.new_task(
        run.path,
        index,
        drawn,
        chosen,
        form=form,
        instructions=str(body.get("instructions", ""))[: people.LONGEST],
        scale=_scale(body.get("scale", [1, 5])),
        labels=_labels(body.get("labels", ["good", "bad"])),
        baseline=baseline,
        drawn=not any((asked.outcome, asked.flag, asked.part, asked.seed, asked.q)),
    )


def page(run: RunState, name: str) -> dict[str, Any] | None:
    """Show the rating page of a task; None if there is none of the name."""
    made = people.task(run.path, name)
    return None if made is None else {"task": made}


def items(
    library: Library, run: RunState, name: str, annotator: str, by: str = ""
) -> dict[str, Any]:
    """Return a task's items for one annotator, blind: texts in random order, no model, no verdict.

    Args:
        by: "uncertain" puts items first on which the judges are least sure, "disagree" those on
            which judges and other annotators are furthest apart.

    Raises:
        KeyError: no such task.
        BadInput: another order.
    """
    made = _task(run, name)
    people.annotator_name(annotator)
    index = library.index(run.key)
    mine = {r.item: r for r in people.latest(run.path) if _is(r, made, annotator)}
    ordered = people.order(made, annotator)
    refuse_unknown("next", by, ("uncertain", "disagree"))
    if by == "disagree":
        apart = people_figures.disagreement(run.path, index, made, annotator)
        ordered.sort(key=lambda pair: -apart.get(pair[0].item, 0.0))
    if by == "uncertain":
        sure = _certainty(index, made)
        ordered.sort(key=lambda pair: sure.get(pair[0].item, 0.0))
    return {
        "form": made.form,
        "scale": made.scale,
        "labels": made.labels,
        "items": [_item(index, item, places, mine.get(item.item)) for item, places in ordered],
    }


def save(library: Library, run: RunState, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Write one rating and return the annotator's progress and agreement.

    Raises:
        BadInput: no such item or value.
        KeyError: no such task.
    """
    made = _task(run, name)
    annotator = people.annotator_name(str(body.get("annotator", "")))
    places = {item.item: places for item, places in people.order(made, annotator)}
    item = str(body.get("item", ""))
    if item not in places:
        raise BadInput(f"item: expected an item of {made.name}, found {item!r}")
    value = _stored(made, body.get("value"), places[item])
    spans = body.get("spans", [])
    if isinstance(spans, list):
        spans = [
            [places[item][s[0]], *s[1:]]
            if isinstance(s, list) and s and type(s[0]) is int and 0 <= s[0] < len(places[item])
            else s
            for s in spans
        ]
    people.save(
        run.path, made, annotator, item, value, comment=body.get("comment", ""), spans=spans
    )
    index = library.index(run.key)
    people_figures.write_figures(run.path, index)
    done = [r for r in people.ratings(run.path) if _is(r, made, annotator)]
    shown = people_figures.agreement(run.path, index, made, annotator) if len(done) >= FEW else []
    return {
        "answered": len(done),
        "agreement": [
            {
                "partner": row["partner"],
                "n": row["n"],
                "share": row["share"].value,
                "low": row["share"].low,
                "high": row["share"].high,
                "kappa": row["kappa"].value,
            }
            for row in shown
        ],
    }


def _task(run: RunState, name: str) -> RatingTask:
    made = people.task(run.path, name)
    if made is None:
        raise KeyError(name)
    return made


def _is(rating: people.Rating, made: RatingTask, annotator: str) -> bool:
    return rating.task == made.name and rating.annotator == annotator


def _item(
    index: Index, item: people.RatingItem, places: list[int], given: people.Rating | None
) -> dict[str, Any]:
    texts = {
        row["id"]: row["text"]
        for key in item.responses
        for row in index.rows(
            "SELECT id, text FROM responses WHERE seed = ? AND id = ?", (item.seed, key)
        )
    }
    turns = index.one(
        "SELECT turns FROM prompts WHERE seed = ? AND id = ?", (item.seed, item.prompt)
    )
    return {
        "item": item.item,
        "turns": json.loads(turns or "[]"),
        "texts": [texts.get(item.responses[place], "") for place in places],
        "value": None if given is None else _shown(given, places),
        "skipped": given is not None and given.value is None,
        "comment": "" if given is None else given.comment,
        "spans": []
        if given is None
        else [[places.index(place), start, end] for place, start, end in given.spans],
    }


def _stored(made: RatingTask, value: Any, places: list[int]) -> Any:
    """Translate a value from the order shown into the task's own order."""
    if made.form == "pair" and type(value) is int and value in (0, 1):
        return places[value]
    if made.form == "ranking" and isinstance(value, list) and len(value) == len(places):
        return [value[places.index(place)] for place in range(len(places))]
    return value


def _shown(given: people.Rating, places: list[int]) -> Any:
    """Translate a stored value into the order shown."""
    if given.form == "pair" and given.value in (0, 1):
        return places.index(given.value)
    if given.form == "ranking" and given.value is not None:
        return [given.value[place] for place in places]
    return given.value


def _certainty(index: Index, made: RatingTask) -> dict[str, float]:
    """Return how sure the judges are of each item: the gap of its scores less their spreads."""
    found = {}
    for item in made.items:
        rows = [
            index.rows(
                "SELECT score, spread FROM answers a JOIN responses r ON r.rid = a.rid "
                "WHERE r.seed = ? AND r.id = ?",
                (item.seed, key),
            )
            for key in item.responses
        ]
        scores = [row[0]["score"] for row in rows if row and row[0]["score"] is not None]
        spreads = [row[0]["spread"] or 0.0 for row in rows if row]
        gap = max(scores) - min(scores) if len(scores) > 1 else 0.0
        found[item.item] = gap - sum(spreads)
    return found


def _scale(given: Any) -> tuple[int, int]:
    whole = isinstance(given, list) and len(given) == 2 and all(type(v) is int for v in given)
    if not whole or not -100 <= given[0] < given[1] <= 100 or given[1] - given[0] > 20:
        raise BadInput(f"scale: expected [lowest, highest], at most 20 apart, found {given!r}")
    return (given[0], given[1])


def _labels(given: Any) -> tuple[str, ...]:
    texts = isinstance(given, list) and all(isinstance(v, str) and v.strip() for v in given)
    if not texts or not 2 <= len(set(given)) <= 20:
        raise BadInput(f"labels: expected 2 to 20 different labels, found {given!r}")
    return tuple(given)
