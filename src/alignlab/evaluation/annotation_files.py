"""Reader of AlpacaEval's files: annotations, difficulty, published weights, gamed baselines.

Annotations are either the benchmark's own `annotations.json` (a list of objects with `instruction`,
`output_1`, `output_2`, `preference`, `generator_2`; `output_1` is the baseline's) or a CSV with
`model,row,instruction_id,len_1,len_2,preference` and, optionally, `annotator`. Either may be
gzipped. A preference is 1 (baseline wins) to 2 (model wins), 1.5 or 0 a draw, empty when missing.

The stored preference can be recomputed from the judge's token log-probabilities, which only
`annotations.json` holds. The judge names the better of two answers by one token, `m` (the one shown
first) or `M`. The preference is 2 - p(m) / (p(m) + p(M)) in the order shown; where the answers were
switched it is mirrored, 3 - that. The instruction alone decides the switch (seed 0 of the published
annotations). Equal answers are a draw without a judgement.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.length_controlled import GlmWeights, Preferences
from alignlab.evaluation.task_files import BenchmarkRow, keyed, read_rows

PreferencesFrom = Literal["stored", "tokens"]

WEIGHT_COLUMNS = (
    "not_gamed_baseline.astype(float)",
    "np.tanh(std_delta_len)",
    "instruction_difficulty",
)
"""Columns of the published weights: bias, length, difficulty."""
INSTRUCTION_IDS = ("instruction_id", "index", "", "Unnamed: 0")
"""Names of the column of instructions in a table of difficulties."""
FIRST, SECOND = "m", "M"
"""Tokens that name the first and the second answer shown."""
DRAW = 1.5
_SWITCH = "is_switched_outputs"


@dataclass(frozen=True)
class Annotation:
    """Preference on one instruction."""

    model: str
    row: int
    """Position in the model's annotations."""
    instruction_id: int | None
    """Position among the benchmark's instructions; None where the file does not say."""
    length_baseline: int
    """Length of the baseline's answer in characters."""
    length_model: int
    preference: float | None
    """Preference from 1 to 2; None is missing."""


def read_annotations(
    path: Path, preferences: PreferencesFrom = "stored"
) -> dict[str, list[Annotation]]:
    """Read annotations by model (by `annotator/model` where the file names annotators).

    With preferences "tokens", they are recomputed from the judge's token log-probabilities; one
    without them is missing.

    Raises:
        BadInput: no such file, an empty one, a bad record, with its line and field, a model
            compared with several baselines or by several annotators, a row twice, or a file
            without log-probabilities where preferences is "tokens".
    """
    tabular = path.name.removesuffix(".gz").endswith(".csv")
    if tabular and preferences == "tokens":
        raise BadInput(f"{path}: expected annotations.json with log-probabilities, found a CSV")
    rows = read_rows(path)
    by_model: dict[str, list[Annotation]] = {}
    if not tabular:
        for row in rows:
            for field in ("generator_1", "generator_2", "annotator", "instruction"):
                row.maybe(field)
        _refuse_mixed(rows)
    _refuse_repeated(rows, tabular=tabular)
    for annotation in map(_from_csv, rows) if tabular else _from_json(rows, preferences):
        by_model.setdefault(annotation.model, []).append(annotation)
    if preferences == "tokens" and not any(_logprobs(row.values) for row in rows):
        raise BadInput(f"{path}: expected the judge's log-probabilities, found none in any record")
    return by_model


def read_difficulty(path: Path) -> Mapping[int, float]:
    """Read instruction id -> difficulty from a CSV `instruction_id,instruction_difficulty`.

    The published file calls the id `index`; pandas leaves the name of an index empty.
    """
    rows = read_rows(path)
    named = next((name for name in INSTRUCTION_IDS if name in rows[0].values), INSTRUCTION_IDS[0])
    found = keyed(rows, named, lambda row: _whole(row, named))
    return {key: _number(row, "instruction_difficulty") for key, row in found.items()}


def read_weights(path: Path) -> Mapping[str, GlmWeights]:
    """Read model -> published weights; the CSV's first column, whatever its name, is the model."""
    rows = read_rows(path)
    named = next(iter(rows[0].values), "model")
    return {
        model: GlmWeights(*(_number(row, column) for column in WEIGHT_COLUMNS))
        for model, row in keyed(rows, named, lambda row: row.text(named)).items()
    }


def read_gamed(path: Path) -> Preferences:
    """Read the gamed baselines' preferences (CSV: preference, std_delta_len, difficulty)."""
    columns = ("preference", "std_delta_len", "instruction_difficulty")
    values = [[_number(row, column) for column in columns] for row in read_rows(path)]
    preference_N, length_N, difficulty_N = np.array(values, dtype=np.float64).T
    return Preferences(preference_N, length_N, difficulty_N)


def switched(instruction: str, seed: int = 0) -> bool:
    """Return True if the model's answer was shown first, False if the baseline's."""
    # The benchmark's own rule, which only this generator repeats.
    return random.Random(f"{_SWITCH}{instruction}{seed}").choices([False, True], k=1)[0]


def preference_of_tokens(logprobs: Mapping[str, float], *, is_switched: bool) -> float | None:
    """Compute the preference, 1 (baseline wins) to 2, from the two tokens' log-probabilities.

    Log-probabilities in nats; an absent token has probability 0; None when both are absent.
    """
    first, second = logprobs.get(FIRST, -math.inf), logprobs.get(SECOND, -math.inf)
    best = max(first, second)
    if best == -math.inf:
        return None
    chance = math.exp(first - best) / (math.exp(first - best) + math.exp(second - best))
    return 1 + chance if is_switched else 2 - chance


def recomputed_preference(record: Mapping[str, Any]) -> float | None:
    """Compute an annotation's preference from its log-probabilities; None without any.

    Reads `instruction`, `output_1`, `output_2` and `raw_completion` of `annotations.json`.
    """
    if record["output_1"] == record["output_2"]:
        return DRAW
    logprobs, instruction = _logprobs(record), record.get("instruction")
    if logprobs is None or not isinstance(instruction, str):
        return None
    return preference_of_tokens(logprobs, is_switched=switched(instruction))


def _logprobs(record: Mapping[str, Any]) -> dict[str, float] | None:
    """Read the judge's likeliest first tokens; None where the record holds none."""
    try:
        top = record["raw_completion"]["logprobs"]["content"][0]["top_logprobs"]
        return {str(t["token"]): float(t["logprob"]) for t in top if t["logprob"] is not None}
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return None


def _refuse_repeated(rows: list[BenchmarkRow], *, tabular: bool) -> None:
    """Refuse a row of a model that is there twice, as in files that were joined twice."""
    found = set()
    for row in rows:
        field, key = _row_key(row, tabular)
        if key in found:
            raise row.bad(field, "each row of a model once", str(key[-1]))
        found.add(key)


def _row_key(row: BenchmarkRow, tabular: bool) -> tuple[str, tuple[Any, ...]]:
    """Return what tells a row of a model from its others, with the field that names it."""
    values = row.values
    if tabular:
        return "row", tuple(values.get(column) for column in ("annotator", "model", "row"))
    model, index = values.get("generator_2"), values.get("index")
    if index is not None:
        return "index", (model, str(index))
    if values.get("instruction") is None:
        return "row", (row.line,)
    texts = (values.get(field) for field in ("output_1", "output_2", "instruction"))
    return "instruction", (model, *map(str, texts))


def _refuse_mixed(rows: list[BenchmarkRow]) -> None:
    """Refuse annotations of a model against several baselines, or by several annotators.

    A baseline that is the model of other rows was written in the place of the model.
    """
    models = {
        v.get("generator_2") for v in (r.values for r in rows)
        if v.get("generator_1") != v.get("generator_2")
    }  # fmt: skip
    first: dict[tuple[str, str], Any] = {}
    for row in rows:
        model, baseline = (str(row.values.get(f)) for f in ("generator_2", "generator_1"))
        if baseline in models and baseline != model:
            expected = "a baseline, which is no model of other rows"
            raise row.bad("generator_1", expected, baseline)
        for field in ("generator_1", "annotator"):
            found = row.values.get(field)
            if first.setdefault((model, field), found) != found:
                expected = f"{first[model, field]!r}, as in the other rows of {model}"
                raise row.bad(field, expected, found)


def _from_csv(row: BenchmarkRow) -> Annotation:
    annotator, model = row.values.get("annotator"), row.text("model")
    return Annotation(
        model=f"{annotator}/{model}" if annotator else model,
        row=_whole(row, "row"),
        instruction_id=_whole(row, "instruction_id"),
        length_baseline=_whole(row, "len_1"),
        length_model=_whole(row, "len_2"),
        preference=_preference(row),
    )


def _from_json(rows: list[BenchmarkRow], preferences: PreferencesFrom) -> Iterator[Annotation]:
    for number, row in enumerate(rows):
        is_null = any(row.values.get(f, "") is None for f in ("output_1", "output_2"))
        stored = _preference(row)
        for field in ("output_1", "output_2", "generator_2"):
            found = row.values.get(field)
            # A null output is an answer that failed: nothing was judged, the row counts as missing.
            if not isinstance(found, str) and not (is_null and stored is None and found is None):
                raise row.bad(field, "a string", found)
        is_stored = preferences == "stored" or is_null
        yield Annotation(
            model=row.text("generator_2"),
            row=number,
            instruction_id=None if row.values.get("index") is None else _whole(row, "index"),
            length_baseline=len(row.values.get("output_1") or ""),
            length_model=len(row.values.get("output_2") or ""),
            preference=stored if is_stored else recomputed_preference(row.values),
        )


def _preference(row: BenchmarkRow) -> float | None:
    """Read a preference: a draw written as 0 becomes 1.5, an empty one is missing."""
    value = row.values.get("preference")
    if value is None or str(value).strip().lower() in ("", "nan", "none"):
        return None
    number = _number(row, "preference")
    if number == 0:
        return DRAW
    if not 1 <= number <= 2:
        raise row.bad("preference", "a number from 1 to 2", value)
    return number


def _whole(row: BenchmarkRow, column: str) -> int:
    number = _number(row, column)
    if number != int(number) or number < 0:
        raise row.bad(column, "a whole number", row.values[column])
    return int(number)


def _number(row: BenchmarkRow, column: str) -> float:
    value = row.values.get(column)
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        found = f"columns {list(row.values)}" if value is None else value
        raise row.bad(column, "a finite number", found)
    return number
