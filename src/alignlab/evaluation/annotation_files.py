"""Read AlpacaEval's files: annotations, difficulty, published weights, gamed baselines.

Annotations are either the benchmark's own `annotations.json` (a list of objects with `instruction`,
`output_1`, `output_2`, `preference`, `generator_2`; `output_1` is the baseline's) or a CSV with
`model,row,instruction_id,len_1,len_2,preference` and, optionally, `annotator`. Either may be
gzipped. A preference is 1 (baseline wins) to 2 (model wins), 1.5 or 0 a draw, empty when missing.
It is the stored one, or is computed again from the judge's token log-probabilities, which only
`annotations.json` holds.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alignlab.errors import BadInput, bad_record
from alignlab.evaluation.metrics.length_controlled import GlmWeights, Preferences
from alignlab.evaluation.token_preferences import recomputed_preference
from alignlab.files import read_text

PreferencesFrom = Literal["stored", "tokens"]

WEIGHT_COLUMNS = (
    "not_gamed_baseline.astype(float)",
    "np.tanh(std_delta_len)",
    "instruction_difficulty",
)
"""Columns of the published weights: bias, length, difficulty."""


@dataclass(frozen=True)
class Annotation:
    """One instruction's preference."""

    model: str
    row: int
    """Position in the model's annotations."""
    instruction_id: int | None
    """Position among the benchmark's instructions; None where the file does not say."""
    length_baseline: int
    """Characters of the baseline's answer."""
    length_model: int
    preference: float | None
    """1 to 2; None is missing."""


def read_annotations(
    path: Path, preferences: PreferencesFrom = "stored"
) -> dict[str, list[Annotation]]:
    """Annotations by model (by `annotator/model` where the file names annotators).

    With preferences "tokens", they are computed again from the judge's token log-probabilities
    (see `token_preferences`); one without them is missing.

    Raises:
        BadInput: no such file, an empty one, a bad record, with its line and field, or a file
            without log-probabilities that are asked for.
    """
    tabular = path.name.removesuffix(".gz").endswith(".csv")
    if tabular and preferences == "tokens":
        raise BadInput(f"{path}: expected annotations.json with log-probabilities, found a CSV")
    found = list(_from_csv(path) if tabular else _from_json(path, preferences))
    if not found:
        raise BadInput(f"{path}: expected annotations, found none")
    by_model: dict[str, list[Annotation]] = {}
    for annotation in found:
        by_model.setdefault(annotation.model, []).append(annotation)
    return by_model


def read_difficulty(path: Path) -> Mapping[int, float]:
    """Instruction id -> difficulty, from a CSV `instruction_id,instruction_difficulty`."""
    return {
        int(_number(path, line, row, "instruction_id")): _number(
            path, line, row, "instruction_difficulty"
        )
        for line, row in _csv_rows(path)
    }


def read_weights(path: Path) -> Mapping[str, GlmWeights]:
    """Model -> published weights; the CSV's first column, whatever its name, holds the model."""
    return {
        next(iter(row.values())): GlmWeights(
            *(_number(path, line, row, column) for column in WEIGHT_COLUMNS)
        )
        for line, row in _csv_rows(path)
    }


def read_gamed(path: Path) -> Preferences:
    """Preferences of the gamed baselines (CSV with preference, std_delta_len, difficulty)."""
    rows = list(_csv_rows(path))
    columns = ("preference", "std_delta_len", "instruction_difficulty")
    values = [[_number(path, line, row, column) for column in columns] for line, row in rows]
    preference_N, length_N, difficulty_N = np.array(values, dtype=np.float64).T
    return Preferences(preference_N, length_N, difficulty_N)


def _from_csv(path: Path) -> Iterator[Annotation]:
    for line, row in _csv_rows(path):
        model = row.get("model") or ""
        if not model:
            raise bad_record(path, line, "model", "a name", model)
        annotator = row.get("annotator")
        yield Annotation(
            model=f"{annotator}/{model}" if annotator else model,
            row=int(_number(path, line, row, "row")),
            instruction_id=int(_number(path, line, row, "instruction_id")),
            length_baseline=int(_number(path, line, row, "len_1")),
            length_model=int(_number(path, line, row, "len_2")),
            preference=_preference(path, line, row.get("preference")),
        )


def _from_json(path: Path, preferences: PreferencesFrom) -> Iterator[Annotation]:
    try:
        records = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise bad_record(
            path, error.lineno, None, "a JSON list of annotations", error.msg
        ) from None
    if not isinstance(records, list):
        raise bad_record(path, None, None, "a JSON list of annotations", records)
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise bad_record(path, None, f"[{number}]", "an object", record)
        for field in ("output_1", "output_2", "generator_2"):
            if not isinstance(record.get(field), str):
                raise bad_record(path, None, f"[{number}].{field}", "a string", record.get(field))
        yield Annotation(
            model=record["generator_2"],
            row=number,
            instruction_id=record.get("index"),
            length_baseline=len(record["output_1"]),
            length_model=len(record["output_2"]),
            preference=(
                recomputed_preference(record)
                if preferences == "tokens"
                else _preference(path, None, record.get("preference"), f"[{number}].")
            ),
        )


def _preference(path: Path, line: int | None, value: Any, where: str = "") -> float | None:
    """Read a preference: a draw written as 0 becomes 1.5, an empty one is missing."""
    if value is None or value in ("", "nan", "None"):
        return None
    field = f"{where}preference"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise bad_record(path, line, field, "a number from 1 to 2", value) from None
    if math.isnan(number):
        return None
    if number == 0:
        return 1.5
    if not 1 <= number <= 2:
        raise bad_record(path, line, field, "a number from 1 to 2", value)
    return number


def _number(path: Path, line: int, row: Mapping[str, str], column: str) -> float:
    if row.get(column) is None:
        raise bad_record(path, line, column, "a column of that name", f"columns {list(row)}")
    try:
        number = float(row[column])
    except ValueError:
        raise bad_record(path, line, column, "a number", row[column]) from None
    if not math.isfinite(number):
        raise bad_record(path, line, column, "a finite number", row[column])
    return number


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Numbered rows of a CSV with a header (line 1)."""
    empty = True
    for number, row in enumerate(csv.DictReader(read_text(path).splitlines()), start=2):
        empty = False
        yield number, row
    if empty:
        raise BadInput(f"{path}: expected a CSV with a header and rows, found none")
