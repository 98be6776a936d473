"""Export sheets for annotators, and import filled sheets as records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.table import Table

from alignlab import configs
from alignlab.commands._support.job import part_of
from alignlab.commands._support.prompts_and_responses import ReadResponses, responses_of
from alignlab.commands._support.responses_from_run import answers_of_run
from alignlab.commands._support.tables import Evaluated, empty_table, figure_cells
from alignlab.configs import NonNegativeInt
from alignlab.data.convert import write_rows, writer_of
from alignlab.data.read import Faults
from alignlab.data.sheet_answers import SheetAnswers, read_answers
from alignlab.data.sheets import Form, Key, SheetSettings, key_path, read_key, write_sheet
from alignlab.data.sources import load as load_data
from alignlab.data.writers import WRITERS, Written
from alignlab.errors import BadInput, unknown_name
from alignlab.evaluation.annotators import Scale, agreement, ratings_of
from alignlab.evaluation.metrics.intervals import Interval, bootstrap_mean
from alignlab.feedback.human import (
    HumanFeedback,
    Learnt,
    commented_responses,
    labelled_responses,
    preference_groups,
)
from alignlab.records import to_dict
from alignlab.run_models import is_run
from alignlab.types import Corpus, Prompt, Response, Score

To = Literal["groups", "preference", "unpaired", "commented", "feedback"]
FORMS: Mapping[Form, tuple[To, ...]] = {
    "numerical": ("groups", "preference", "feedback"),
    "ranking": ("groups", "preference", "feedback"),
    "text": ("commented", "feedback"),
    "labels": ("unpaired", "groups", "preference", "feedback"),
}
"""Format of a sheet -> layouts that its answers can be written in, the default first."""
_SCALES: Mapping[Form, Scale] = {
    "numerical": "numbers",
    "ranking": "preferences",
    "labels": "labels",
}


@dataclass(frozen=True)
class ExportSettings(SheetSettings):
    """Settings of a sheet for annotators."""

    limit: NonNegativeInt = 0
    """Maximum number of prompts shown, chosen by the seed; 0 shows all. A larger number later adds
    rows."""
    stages: str = ""
    """Part of the names of a run's stages whose responses are shown; by default those that answer
    held-out prompts. For run directories only."""


@dataclass(frozen=True)
class SheetWritten:
    """Sheet written for annotators."""

    path: str
    key: str
    """Key needed to read the sheet; not for annotators."""
    rows: int
    added: int
    """Number of rows that the sheet did not hold before."""
    prompts: int
    column: str
    expected: str
    """Values expected in the column."""
    dropped: Mapping[str, int]

    def __str__(self) -> str:
        left_out = "; ".join(f"{why} {n}" for why, n in self.dropped.items())
        return (
            f"{self.path}: {self.rows} rows of {self.prompts} prompts, {self.added} new"
            + (f" (left out: {left_out})" if left_out else "")
            + f"\n  fill in {self.column!r} ({self.expected}); a copy for each annotator"
            + f"\n  {self.key}: keep this, it says which response each row is"
        )


class Imported(NamedTuple):
    """Result of an import: figures, bad rows and the file written."""

    evaluated: Evaluated
    """Figures of agreement and of the writers of the responses."""
    problems: tuple[str, ...]
    """One line per bad row; only if nothing is written."""
    written: str
    """Description of the file written; empty if there is none."""

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {"rows": self.evaluated.rows}

    def table(self) -> Table:
        """Return the figures for a terminal."""
        return self.evaluated.table

    def __str__(self) -> str:
        return self.written


def export(
    source: str | Path,
    out: str | Path,
    *overrides: str,
    format: str = "numerical",
    **settings: Any,
) -> SheetWritten:
    """Write a blind sheet of responses for annotators; more prompts later add rows to it.

    Args:
        source: a run directory, or data with responses (FORMAT:PATH or PATH).
        out: the sheet, .csv or .jsonl; its key is written next to it.
        overrides: "key=value" settings of the sheet.
        format: "numerical", "ranking", "text" or "labels".
        settings: settings by keyword, as in overrides.

    Raises:
        BadInput: an unknown setting or format, nothing to show, or another file in the way.
    """
    if format not in FORMS:
        raise unknown_name("feedback format", format, FORMS)
    given = configs.parse_overrides(overrides) | settings
    if "form" in given:
        raise BadInput("setting form: expected as --format FORMAT, found form=")
    chosen = configs.build(ExportSettings, {"form": format}, given)
    found = _responses(str(source), chosen)
    path = Path(out)
    sheet = part_of(SheetSettings, chosen)
    written = write_sheet(path, found.prompts, found.responses, sheet, limit=chosen.limit)
    dropped = Counter(found.tally.dropped) + Counter(written.tally.dropped)
    items = written.key.items
    return SheetWritten(
        path=str(path),
        key=written.key.path,
        rows=len(items),
        added=written.added,
        prompts=len({item.prompt.id for item in items}),
        column=chosen.column,
        expected=chosen.expected,
        dropped=dict(dropped),
    )


def import_(
    *sheets: str | Path,
    key: str | Path = "",
    out: str | Path = "",
    to: str = "",
    bad: Literal["stop", "drop"] = "stop",
    seed: int = 0,
) -> Imported:
    """Check filled sheets, compute the annotators' agreement, and write records to train on.

    Args:
        sheets: filled copies of one sheet, one or more per annotator.
        key: the sheet's key; by default the only one in the folder of the first sheet.
        out: file to write (.jsonl, .jsonl.gz or .parquet); without it, the sheets are only checked
            and every bad row is listed.
        to: "groups", "preference", "unpaired", "commented" or "feedback" (the answers of each
            annotator, for `human:FILE`); the default depends on the sheet's format.
        bad: "stop" ends at the first bad row, "drop" counts them.
        seed: seed of the bootstrap.

    Raises:
        BadInput: no key, a bad row, or answers that cannot be written as `to`.
    """
    if not sheets:
        raise BadInput("annotations import: expected filled sheets, found none")
    found_key = read_key(Path(key) if key else _only_key(Path(sheets[0])))
    form = found_key.settings.form
    if to and to not in FORMS[form]:
        raise BadInput(f"--to {to}: expected {' or '.join(FORMS[form])} of a {form} sheet")
    if not out:
        for name, idle in (("--to", bool(to)), ("--bad drop", bad == "drop")):
            if idle:
                raise BadInput(f"{name}: has no effect without --out")
        faults = Faults(stop=False)
        answers = read_answers(sheets, found_key, faults)
        return Imported(_figures(answers, found_key, seed), tuple(map(str, faults.found)), "")
    layout = to or FORMS[form][0]
    writer_of(Path(out))
    if layout == "feedback" and Path(out).suffix != ".jsonl":
        raise BadInput(f"{out}: expected a file name ending in .jsonl for --to feedback")
    answers = read_answers(sheets, found_key, Faults(stop=bad == "stop"))
    summary = _write(Path(out), layout, answers, found_key, str(sheets[0]))
    return Imported(_figures(answers, found_key, seed), (), summary)


def _write(path: Path, layout: str, answers: SheetAnswers, key: Key, sheet: str) -> str:
    """Write answers in a layout, and describe the file.

    Raises:
        BadInput: no answer can be written.
    """
    written = _rows(layout, answers, key)
    left_out = "; ".join(f"{why} {n}" for why, n in written.dropped.items())
    if not written.rows:
        raise BadInput(f"{sheet}: expected answers to write, found none ({left_out})")
    write_rows(path, written)
    return f"{path}: {len(written.rows)} rows as {layout}" + (f" ({left_out})" if left_out else "")


def _responses(source: str, chosen: ExportSettings) -> ReadResponses:
    if is_run(Path(source)):
        return answers_of_run(Path(source), chosen.stages)
    if chosen.stages:
        raise BadInput(f"setting stages: has no effect on {source}, which is no run directory")
    return responses_of(load_data(source))


def _only_key(sheet: Path) -> Path:
    beside = key_path(sheet)
    keys = [beside] if beside.exists() else sorted(sheet.parent.glob("*.key.jsonl"))
    if len(keys) != 1:
        found = ", ".join(each.name for each in keys) or "none"
        raise BadInput(f"{sheet}: expected {beside.name} beside it, found {found}")
    return keys[0]


def _shown(key: Key) -> tuple[list[Prompt], list[Response]]:
    prompts = {item.prompt.id: item.prompt for item in key.items}
    return list(prompts.values()), [item.response for item in key.items]


def _rows(to: str, answers: SheetAnswers, key: Key) -> Written:
    """Convert the answers to rows of a layout."""
    if to == "feedback":
        return Written([to_dict(each) for each in answers.feedback])
    human = HumanFeedback(answers.feedback)
    prompts, responses = _shown(key)
    kinds = {"unpaired": "labelled", "commented": "commented"}
    makers = {"unpaired": labelled_responses, "commented": commented_responses}
    learnt: Learnt = makers.get(to, preference_groups)(prompts, responses, human)
    corpus = Corpus("human", **{kinds.get(to, "groups"): tuple(learnt.records)})  # type: ignore[arg-type]
    written = WRITERS[to](corpus, "all" if to == "preference" else "best_worst")
    written.dropped.update(learnt.dropped)
    return written


def _figures(answers: SheetAnswers, key: Key, seed: int) -> Evaluated:
    """Tabulate answers per annotator, agreement, and mean scores per writing model."""
    columns = ("of the annotators", "value", "95% interval", "n")
    table = empty_table(f"{key.settings.form} feedback", columns)
    rows: list[dict[str, Any]] = []

    def add(what: str, figure: Interval, **more: Any) -> None:
        rows.append({"model": what, **asdict(figure), **more})
        table.add_row(what, *figure_cells(figure.value, figure.low, figure.high), f"{figure.n:,}")

    for each in answers.annotators:
        count = Interval(float(each.answered), None, None, each.answered + each.unanswered)
        add(f"{each.name}: rows answered", count, unanswered=each.unanswered)
    for what, number in (("answers repeated", answers.repeated), ("bad rows", answers.bad)):
        if number:
            add(what, Interval(float(number), None, None, number))
    scale = _SCALES.get(key.settings.form)
    if scale and answers.feedback:
        table_of = ratings_of(answers.feedback, scale)
        names = [name.removeprefix("human:") for name in table_of.names]
        cluster = {item.prompt.id: item.prompt.cluster for item in key.items}
        for one in agreement(
            table_of.values_NA,
            names,
            scale,
            prompts_N=[cluster[p] for p in table_of.prompts],
            seed=seed,
        ):
            pair = f", {' and '.join(one.between)}" if len(names) > len(one.between) else ""
            add(one.what + pair, one.figure, between=list(one.between))
    for model, figure in _by_model(answers, key, seed).items():
        add(f"mean of {model}", figure)
    return Evaluated(tuple(rows), table)


def _by_model(answers: SheetAnswers, key: Key, seed: int) -> dict[str, Interval]:
    """Return the mean score of each writer's responses, if there are several writers.

    A text written by several models counts for the first one only; the export counts these texts.
    """
    prompts, responses = _shown(key)
    by_id = {prompt.id: prompt for prompt in prompts}
    rated = HumanFeedback(answers.feedback).rate([(by_id[r.prompt_id], [r]) for r in responses], 0)
    scores: dict[str, list[tuple[float, str]]] = {}
    for response, one in zip(responses, rated, strict=True):
        if isinstance(one.verdict, Score):
            scores.setdefault(response.sampler.model, []).append(
                (one.verdict.value, by_id[one.prompt_id].cluster)
            )
    if len(scores) < 2:
        return {}
    return {
        model: bootstrap_mean([v for v, _ in found], prompts_N=[p for _, p in found], seed=seed)
        for model, found in sorted(scores.items())
    }
