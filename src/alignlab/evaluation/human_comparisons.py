"""Human evaluation of Tulu: win rates, acceptance and agreement (arXiv 2306.04751).

Rows of `eval_annotations.xlsx` or of the sheet as CSV, JSONL or JSON: two models' completions of an
instance, in a shuffled order, with `preference` (a-is-better, a-is-slightly-better, tie, ...) and
`completion_a_is_acceptable` (yes or no). As published: the latest annotation of an evaluator
counts, figures take the first evaluator of an instance, agreement the first two; in the relaxed
agreement a tie against a win counts half. Rows without a preference are remarks on the instance;
they are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from alignlab.errors import bad_record
from alignlab.evaluation.metrics.intervals import share_interval
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_files import BenchmarkRow, read_rows
from alignlab.types import EvalResult

NAME = "human_eval"
PREFERENCES = {
    "a-is-better": 1.0, "a-is-slightly-better": 0.75, "tie": 0.5,
    "b-is-slightly-better": 0.25, "b-is-better": 0.0,
}  # fmt: skip
"""Preference -> outcome of the first side: 1 better, 0.75 slightly better, 0.5 a tie."""


class HumanComparison(NamedTuple):
    """Comparison by one evaluator, from the side of the model whose name comes first."""

    models: tuple[str, str]
    instance: str
    evaluator: str
    time: str
    preference: float | None
    """Outcome: 1 clearly better, 0.75 slightly, 0.5 a tie, 0.25, 0; None is a remark."""
    acceptable: tuple[bool | None, bool | None]

    @property
    def outcome(self) -> float:
        """Outcome without degrees: 1 a win, 0.5 a tie, 0 a loss."""
        assert self.preference is not None
        return (self.preference > 0.5) + 0.5 * (self.preference == 0.5)


def human_rows(path: Path) -> list[EvalResult]:
    """Measure every pair of models in a file of annotations.

    Raises:
        BadInput: a bad row, or a file without a comparison.
    """
    latest: dict[tuple[object, ...], HumanComparison] = {}
    remarks: dict[tuple[str, str], int] = {}
    for one in sorted(map(_annotation, read_rows(path)), key=lambda one: one.time):
        if one.preference is None:
            remarks[one.models] = remarks.get(one.models, 0) + 1
            continue
        latest[one.models, one.instance, one.evaluator] = one
    pairs: dict[tuple[str, str], dict[str, list[HumanComparison]]] = {}
    for one in sorted(latest.values(), key=lambda one: one.time):
        pairs.setdefault(one.models, {}).setdefault(one.instance, []).append(one)
    if not pairs:
        raise bad_record(path, None, "preference", "a comparison", "remarks alone")
    return [
        row
        for models, instances in pairs.items()
        for row in _rows(models, list(instances.values()), remarks.get(models, 0))
    ]


def _rows(
    models: tuple[str, str], instances: Sequence[Sequence[HumanComparison]], remarks: int
) -> list[EvalResult]:
    first, second = models
    about = Subject(first, NAME, against=second)
    taken = [several[0] for several in instances]
    shares = {
        "win_rate": [one.outcome for one in taken],
        "clear_wins": [float(one.preference == 1) for one in taken],
        "slight_wins": [float(one.preference == 0.75) for one in taken],
        "ties": [float(one.preference == 0.5) for one in taken],
        "slight_losses": [float(one.preference == 0.25) for one in taken],
        "clear_losses": [float(one.preference == 0) for one in taken],
    }
    twice = [several[:2] for several in instances if len(several) > 1]
    if twice:
        gaps = [abs(a.outcome - b.outcome) for a, b in twice]
        shares["agreement"] = [float(gap == 0) for gap in gaps]
        shares["agreement_relaxed"] = [1 - gap for gap in gaps]
    rows = [
        about.row(name, share_interval(values), unscored=0 if name.startswith("agree") else remarks)
        for name, values in shares.items()
    ]
    for side, model in enumerate(models):
        marked = [one.acceptable[side] for one in taken]
        known = [float(mark) for mark in marked if mark is not None]
        subject = Subject(model, NAME, against=models[1 - side])
        unscored = len(marked) - len(known)
        rows.append(subject.row("acceptable", share_interval(known), unscored=unscored))
    return rows


def _annotation(row: BenchmarkRow) -> HumanComparison:
    models = row.text("model_a"), row.text("model_b")
    preference = (row.maybe("preference") or "").strip()
    if preference and preference not in PREFERENCES:
        expected = "one of " + ", ".join(PREFERENCES)
        raise row.bad("preference", expected, preference)
    value = PREFERENCES.get(preference)
    acceptable = _mark(row, "completion_a_is_acceptable"), _mark(row, "completion_b_is_acceptable")
    if models[0] == models[1]:
        raise row.bad("model_b", "another model than model_a", models[1])
    time = row.values.get("timestamp")
    if isinstance(time, list | dict | bool):
        raise row.bad("timestamp", "a time", time)
    if models[0] > models[1]:
        models, acceptable = models[::-1], acceptable[::-1]
        value = None if value is None else 1 - value
    return HumanComparison(
        models,
        row.key("instance_id", "instance_index"),
        row.key("evaluator"),
        str(time or ""),
        value,
        acceptable,
    )


def _mark(row: BenchmarkRow, field: str) -> bool | None:
    found = (row.maybe(field) or "").strip().lower()
    if found not in ("yes", "no", ""):
        raise row.bad(field, "yes or no", found)
    return {"yes": True, "no": False}.get(found)
