"""Keep people's ratings of a run: tasks, one append-only file per annotator, and their figures.

Ratings are the only files that the viewer writes into a run, below `people/`. A line is one rating;
of several lines for one item the last counts, so that two windows of one annotator overwrite
nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from alignlab.errors import BadInput
from alignlab.files import write_json
from alignlab.records import from_dict, to_line, whole_records
from alignlab.report.run_data import PEOPLE
from alignlab.seeds import derive
from alignlab.types import EvalResult
from alignlab.viewer.index import Index

FOLDER = "people"
Form = Literal["pair", "scale", "ranking", "labels", "text"]
FORMS: tuple[Form, ...] = ("pair", "scale", "ranking", "labels", "text")
LONGEST = 20_000
"""Maximum length of a comment, in characters."""
MOST_SPANS = 200
_NAME = re.compile(r"(?!(?i:results)$)[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


@dataclass(frozen=True)
class RatingItem:
    """Responses to rate together, blind."""

    item: str
    seed: int
    prompt: str
    cluster: str
    responses: tuple[str, ...]
    models: tuple[str, ...]


@dataclass(frozen=True)
class RatingTask:
    """Items that annotators rate in one form."""

    name: str
    form: Form
    instructions: str
    scale: tuple[int, int]
    """Lowest and highest rating of the form `scale`."""
    labels: tuple[str, ...]
    """Labels of the form `labels`."""
    items: tuple[RatingItem, ...]
    baseline: str = ""
    """Model on the other side of every pair."""
    created: str = ""
    drawn: bool = True
    """True if the prompts were drawn at random from all held-out ones."""


@dataclass(frozen=True)
class Rating:
    """One rating by one annotator."""

    task: str
    item: str
    annotator: str
    form: Form
    seed: int
    prompt: str
    responses: tuple[str, ...]
    value: Any
    """Index of the better response or "tie" (pair), number (scale), ranks (ranking), label, or
    None: skipped."""
    comment: str = ""
    spans: tuple[tuple[int, int, int], ...] = ()
    """Marked passages: index of the response, start, end (characters)."""
    time: str = ""


def annotator_name(name: str) -> str:
    """Return a valid annotator's name.

    Raises:
        BadInput: other characters than letters, digits, ".", "-" and "_".
    """
    if not _NAME.fullmatch(name):
        raise BadInput(f"annotator: expected letters, digits, '-', '_' or '.', found {name!r}")
    return name


def tasks(run: Path) -> list[RatingTask]:
    """Return a run's tasks, the latest first.

    Raises:
        BadInput: a task file cannot be read.
    """
    return sorted(map(_read_task, _task_files(run)), key=lambda t: t.created, reverse=True)


def task(run: Path, name: str) -> RatingTask | None:
    """Return a task; None if there is none of the name."""
    return next((t for t in tasks(run) if t.name == name), None)


def new_task(
    run: Path, index: Index, keys: Sequence[tuple[int, str]], models: Sequence[str], **given: Any
) -> RatingTask:
    """Make a task of held-out prompts and write it into the run.

    Args:
        keys: (seed, prompt id) of the prompts.
        models: the compared model and the baseline (`pair`), or the models whose responses are
            rated one by one (`scale`, `labels`, `text`) or ranked together (`ranking`).
        given: form, instructions, scale, labels and baseline of the task; `drawn` is False where a
            filter chose the prompts.

    Raises:
        BadInput: an unknown form, or nothing to rate.
    """
    form = given.get("form", "pair")
    if form not in FORMS:
        raise BadInput(f"form: expected one of {', '.join(FORMS)}, found {form!r}")
    if form == "pair" and len(set(models)) != 2:
        raise BadInput("models: expected two different models for pairs")
    items = [
        item
        for seed, prompt in keys
        for item in _items(index, seed, prompt, models, together=form in ("pair", "ranking"))
    ]
    if not items:
        raise BadInput("rate: expected prompts that these models answered, found none")
    name = f"{form}-{derive(form, *(i.item for i in items)):016x}"[:20]
    made = RatingTask(
        name=name,
        form=form,
        instructions=given.get("instructions", ""),
        scale=given.get("scale", (1, 5)),
        labels=tuple(given.get("labels", ("good", "bad"))),
        items=tuple(items),
        baseline=given.get("baseline", ""),
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        drawn=given.get("drawn", True),
    )
    if (known := task(run, name)) is not None:
        return known
    file = inside(run, run / FOLDER / "tasks" / f"{name}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(made))
    return made


def order(made: RatingTask, annotator: str) -> list[tuple[RatingItem, list[int]]]:
    """Return the items in an annotator's order, with the order of responses in each."""
    placed = sorted(made.items, key=lambda i: derive(annotator, made.name, i.item))
    return [
        (
            item,
            sorted(
                range(len(item.responses)),
                key=lambda k: derive(annotator, made.name, item.item, k),
            ),
        )
        for item in placed
    ]


def save(run: Path, made: RatingTask, annotator: str, item: str, value: Any, **more: Any) -> Rating:
    """Append one rating to the annotator's file.

    Args:
        value: in the task's own order of responses; None skips the item.
        more: comment and spans.

    Raises:
        BadInput: no such item, or no such value in the task's form.
    """
    found = next((i for i in made.items if i.item == item), None)
    if found is None:
        raise BadInput(f"item: expected an item of {made.name}, found {item!r}")
    comment = more.get("comment", "")
    if not isinstance(comment, str) or len(comment) > LONGEST:
        raise BadInput(f"comment: expected text of at most {LONGEST} characters")
    rating = Rating(
        task=made.name,
        item=item,
        annotator=annotator_name(annotator),
        form=made.form,
        seed=found.seed,
        prompt=found.prompt,
        responses=found.responses,
        value=_checked(made, found, value),
        comment=comment,
        spans=_spans(more.get("spans", ()), len(found.responses)),
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    path = inside(run, run / FOLDER / f"{annotator}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(to_line(rating))
    return rating


def ratings(run: Path) -> list[Rating]:
    """Return the last rating of every annotator on every item, skipped ones left out."""
    return [r for r in latest(run) if r.value is not None]


def latest(run: Path) -> list[Rating]:
    """Return the last rating of every annotator on every item; a skipped one has no value."""
    last: dict[tuple[str, str, str], Rating] = {}
    for file in sorted(p for p in (run / FOLDER).glob("*.jsonl") if p.stem != "results"):
        for rating in whole_records(file, Rating):
            last[(rating.task, rating.annotator, rating.item)] = rating
    return list(last.values())


def of_response(run: Path, seed: int, response: str) -> list[Rating]:
    """Return people's ratings of one response."""
    return [r for r in ratings(run) if r.seed == seed and response in r.responses]


def summary(run: Path) -> list[EvalResult]:
    """Return the figures of people's ratings that the report shows."""
    return list(whole_records(run / PEOPLE, EvalResult))


def _items(
    index: Index, seed: int, prompt: str, models: Sequence[str], *, together: bool
) -> list[RatingItem]:
    found = {
        row["model"]: row
        for row in index.rows(
            "SELECT a.model, r.id, p.cluster FROM answers a JOIN responses r ON r.rid = a.rid "
            "JOIN prompts p ON p.seed = a.seed AND p.id = a.prompt "
            "WHERE a.seed = ? AND a.prompt = ?",
            (seed, prompt),
        )
    }
    known = [m for m in models if m in found]
    if together and len(known) < len(models):
        return []
    groups = [known] if together and known else [[m] for m in known]
    return [
        RatingItem(
            item=f"{derive(seed, *(found[m]['id'] for m in some)):016x}",
            seed=seed,
            prompt=prompt,
            cluster=found[some[0]]["cluster"],
            responses=tuple(found[m]["id"] for m in some),
            models=tuple(some),
        )
        for some in groups
    ]


def _checked(made: RatingTask, item: RatingItem, value: Any) -> Any:
    """Return a value of the task's form.

    Raises:
        BadInput: another value.
    """
    if value is None:
        return None
    n = len(item.responses)
    if made.form == "pair" and (value == "tie" or (type(value) is int and value in (0, 1))):
        return value
    low, high = made.scale
    if made.form == "scale" and type(value) is int and low <= value <= high:
        return value
    if made.form == "labels" and value in made.labels:
        return value
    if made.form == "text" and isinstance(value, str) and 0 < len(value.strip()) <= LONGEST:
        return value
    ranks = made.form == "ranking" and isinstance(value, list) and len(value) == n
    if ranks and all(type(v) is int and 1 <= v <= n for v in value):
        return value
    raise BadInput(f"value: expected a rating in the form {made.form}, found {value!r}")


def _spans(given: Any, responses: int) -> tuple[tuple[int, int, int], ...]:
    if not isinstance(given, list | tuple) or len(given) > MOST_SPANS:
        raise BadInput(f"spans: expected a list of at most {MOST_SPANS} passages")
    found = []
    for span in given:
        numbers = isinstance(span, list | tuple) and len(span) == 3
        if not numbers or not all(type(v) is int for v in span):
            raise BadInput(f"spans: expected [response, start, end], found {span!r}")
        place, start, end = span
        if not (0 <= place < responses and 0 <= start < end):
            raise BadInput(f"spans: expected a passage of a response, found {span!r}")
        found.append((place, start, end))
    return tuple(found)


def inside(run: Path, path: Path) -> Path:
    """Return a path to write to, which no link leads out of the run.

    Raises:
        BadInput: a link out of the run.
    """
    if not path.resolve().is_relative_to(run.resolve()):
        raise BadInput(f"{path}: expected a file of the run, found a link out of it")
    return path


def _read_task(path: Path) -> RatingTask:
    try:
        return from_dict(RatingTask, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise BadInput(f"{path}: expected a task, found {str(error)[:120]!r}") from None


def _task_files(run: Path) -> list[Path]:
    return sorted((run / FOLDER / "tasks").glob("*.json"))
