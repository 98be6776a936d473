"""Define results: rows, a pandas frame, a figure, and a table in a notebook."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from alignlab.api.models import TrainedModel
    from alignlab.types import Count

SHOWN = 20
"""Maximum number of rows of a table in a notebook."""


class Result:
    """Rows, each a mapping of a column's name to its value."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
        self.rows = [dict(row) for row in rows]
        self.title = title

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame, or as a list of dicts without pandas."""
        try:
            import pandas
        except ImportError:
            return self.rows
        return pandas.DataFrame(self.rows)

    def plot(self) -> Any:
        """Plot the rows as a matplotlib Figure; a notebook displays it.

        Rows with a `step` become lines, rows with `value`, `low` and `high` points with their 95%
        intervals, other numbers histograms.

        Raises:
            BadInput: the rows hold no numbers.
        """
        from alignlab.api.plots import figure

        return figure(self.rows, self.title)

    def as_json(self) -> Any:
        """Return the JSON printed by `--json`."""
        return {"rows": self.rows}

    def table(self) -> Any:
        """Return a rich table for a terminal; None if `str` is complete."""
        return None

    def _repr_html_(self) -> str:
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(row.get(c))}</td>" for c in columns) + "</tr>"
            for row in self.rows[:SHOWN]
        )
        if not self.rows:
            return f"<p><b>{html.escape(self.title)}</b></p>{self._note_html()}<p>no rows</p>"
        more = f"<p>{len(self.rows):,} rows, {SHOWN} shown</p>" if len(self.rows) > SHOWN else ""
        return (
            f"<p><b>{html.escape(self.title)}</b></p>{self._note_html()}"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
        )

    def _note_html(self) -> str:
        return ""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __repr__(self) -> str:
        rows = "1 row" if len(self.rows) == 1 else f"{len(self.rows)} rows"
        return f"<{type(self).__name__} {self.title}: {rows}>"


class FolderResult(Result):
    """Result stored in a folder."""

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], title: str, folder: Path, report: Path | None
    ) -> None:
        super().__init__(rows, title)
        self.folder = folder
        """Run directory; pass it as `out=` to resume or read the run."""
        self.report = report
        """Page of the run; None if there is none."""

    def __str__(self) -> str:
        return f"report: {os.path.relpath(self.report)}" if self.report else str(self.folder)

    def _note_html(self) -> str:
        link = self.report or self.folder
        return f'<p><a href="{html.escape(os.path.relpath(link))}">{html.escape(str(link))}</a></p>'


class FileResult(Result):
    """Rows stored in a file."""

    def __init__(self, written: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(rows, str(written))
        self.path = Path(written.path)
        """Path of the file, accepted wherever data is."""
        self.folder = Path(written.records)
        """Folder of records, counts and costs."""
        self.note: str = written.note
        """Counts of records left out; empty if there are none."""
        self._written = written

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.title}>"

    def as_json(self) -> Any:
        """Return the file's path, number of rows, records and note."""
        from alignlab.records import to_dict

        return to_dict(self._written)

    def __str__(self) -> str:
        return self.title


class Judgements(FileResult):
    """Verdicts on responses."""

    scores: list[float | None] = []  # noqa: RUF012 - set with the rows
    """Score per response, in the order given; None is unscored."""

    def __init__(self, written: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(written, rows)
        self.scores = [row.get("score") for row in self.rows]


class Training(Result):
    """Trained model with its metrics and held-out figures; its rows are the metrics."""

    def __init__(self, trained: Any, folder: Path, metrics: Sequence[Mapping[str, Any]]) -> None:
        from alignlab.api.models import TrainedModel

        super().__init__(metrics, f"trained: {folder}")
        self.folder = folder
        """Run directory."""
        self.model: TrainedModel = TrainedModel(**vars(trained.model))
        """Trained model, accepted wherever a model is; `.generate(prompts)` answers in memory."""
        self.counts: tuple[Count, ...] = trained.counts
        """Numbers of records used, changed and dropped on the way from data to tokens."""
        self._trained = trained

    @property
    def metrics(self) -> Result:
        """Row per logged step: `step`, `loss`, `rewards/margins`, ..."""
        return Result(self.rows, "metrics")

    @property
    def held_out(self) -> Result:
        """Figures on the data's held-out part; no rows without one."""
        from alignlab.records import to_dict

        return Result([to_dict(row) for row in self._trained.held_out], "held-out data")

    def as_json(self) -> Any:
        """Return the trained model, the metrics' file, counts and held-out figures."""
        from alignlab.records import to_dict

        return to_dict(self._trained)

    def __str__(self) -> str:
        return str(self._trained)

    def _note_html(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


class Evaluation(FolderResult):
    """Figures of models or judges, one row each."""

    def __init__(self, evaluated: Any, title: str, folder: str | Path | None) -> None:
        super().__init__(evaluated.rows, title, Path(folder or ""), evaluated.report)
        self._table: Table = evaluated.table

    def table(self) -> Table:
        """Return the rounded figures with 95% intervals."""
        return self._table

    def __str__(self) -> str:
        return super().__str__() if self.report else ""

    def _note_html(self) -> str:
        return super()._note_html() if self.report else ""


class CardResult(Evaluation):
    """Judge card: figures of the judge and of guesses on the same pairs, with a verdict."""

    def __init__(self, evaluated: Any, folder: Path) -> None:
        from alignlab.files import read_json

        super().__init__(evaluated, "judge card", folder)
        self.card: dict[str, Any] = read_json(folder / "card.json")
        """Content of card.json."""
        self.verdict: str = self.card["verdict"]["standing"]
        """Verdict: "fit", "fit with both orders" or "unfit"."""
        self._notes: Sequence[str] = evaluated.notes

    def as_json(self) -> Any:
        """Return the card."""
        return self.card

    def __str__(self) -> str:
        return "\n".join([*self._notes, super().__str__()])


class StudyResult(FolderResult):
    """Finished study with its figures, models and report; a notebook displays the figures."""

    def __init__(self, report: Path) -> None:
        from alignlab.files import read_json

        summary = read_json(report.parent / "summary.json")
        super().__init__(summary["rows"], f"{summary['recipe']}", report.parent, report)
        self.judge: str = summary.get("judge", "")
        """Sentence on the judge that measured; empty for gold scores."""

    @property
    def results(self) -> Result:
        """Row per model, benchmark and metric, with 95% intervals."""
        return Result(self.rows, self.title)

    @cached_property
    def models(self) -> dict[str, TrainedModel]:
        """Trained models by the name of their stage, in the order of training."""
        from alignlab.api.models import TrainedModel
        from alignlab.run_models import models_of

        return {m.name: TrainedModel(m.name, str(m.folder)) for m in models_of(self.folder)}

    @property
    def model(self) -> TrainedModel:
        """Model that the study ends with; `.generate(prompts)` answers in memory.

        Raises:
            BadInput: the study ends with several; choose from `models`.
        """
        from alignlab.run_models import final_model

        folder = str(final_model(self.folder))
        return next(model for model in self.models.values() if model.path == folder)

    def as_json(self) -> Any:
        """Return the report's path and the figures."""
        return {"report": str(self.report), "rows": self.rows}

    def __str__(self) -> str:
        from alignlab.commands._support.terminal import ending
        from alignlab.report.run_data import read_run

        return ending(read_run(self.folder))


class ReportPage(FolderResult):
    """Page built from run directories; accepted as a path."""

    def __fspath__(self) -> str:
        return str(self.report)


class ComparisonPage(ReportPage):
    """Comparison of runs: its page, differing settings, paired differences, flipped prompts."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], found: Any) -> None:
        super().__init__(rows, " and ".join(found.names), found.page.parent, found.page)
        self._found = found

    @property
    def settings(self) -> Result:
        """Row per setting that differs, with the value of each run; None is not set."""
        names = self._found.names
        return Result(
            [
                {"setting": name} | dict(zip(names, values, strict=True))
                for name, values in self._found.settings
            ],
            "settings that differ",
        )

    @property
    def differences(self) -> Result:
        """Row per paired difference, with 95% interval, p-values and verdict."""
        from alignlab.records import to_dict
        from alignlab.report.run_comparison import verdict

        return Result(
            [to_dict(pair) | {"verdict": verdict(pair)} for pair in self._found.paired],
            "paired differences",
        )

    @property
    def flips(self) -> Result:
        """Row per flipped prompt, with both answers and their values."""
        from alignlab.records import to_dict

        return Result(
            [
                {"model": one.model, "other": one.other, "by": one.by} | to_dict(row)
                for one in self._found.flips
                for row in one.rows
            ],
            "flipped prompts",
        )

    def table(self) -> Any:
        """Return the tables of settings and differences; None if there is neither."""
        from rich.console import Group

        from alignlab.commands.compare import tables

        made = [part for table in tables(self._found) for part in (table, "")]
        return Group(*made) if made else None

    def __str__(self) -> str:
        from alignlab.commands.compare import lines

        return "\n".join([*lines(self._found), super().__str__()])


class Text(Result):
    """Result that is complete as text, such as a plan."""

    def __init__(
        self, said: Any, rows: Sequence[Mapping[str, Any]], title: str, *, strict: bool = False
    ) -> None:
        super().__init__(rows, title)
        self.value = said
        """Record behind the text."""
        self.failed = strict and bool(self.warnings)
        """True if warnings count as a failure and there are some."""

    @property
    def warnings(self) -> Sequence[str]:
        """One line per finding that warns."""
        found = getattr(self.value, "findings", ())
        return tuple(str(finding) for finding in found if finding.level == "warn")

    @property
    def problems(self) -> Sequence[str]:
        """One line per bad record."""
        return tuple(getattr(self.value, "problems", ()))

    def as_json(self) -> Any:
        """Return the record's fields."""
        from alignlab.records import to_dict

        return to_dict(self.value)

    def __str__(self) -> str:
        return str(self.value)

    def _note_html(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None or value in ({}, [], ()) else str(value)
    return html.escape(text if len(text) <= 200 else text[:197] + "...")
