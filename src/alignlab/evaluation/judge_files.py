"""A judge's score file against a reference's: `alignlab evaluate judge --scores --reference`.

A file holds one prompt per line (JSONL, or .jsonl.gz):

    {"prompt_id": "...", "completion": {"0": {"content": "...", "score": 4}, "1": {...}, ...}}

Rows are joined by `prompt_id` and completion key, never by position; `score` null, absent or
negative is a score that could not be read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput, bad_record
from alignlab.evaluation.benchmarks.reward_modelling import quality_rows
from alignlab.evaluation.metrics.intervals import Interval
from alignlab.evaluation.metrics.judge_quality import ScoredPrompt, judge_quality
from alignlab.evaluation.metrics.poster import PosterQuality, poster_quality
from alignlab.evaluation.result_rows import Subject
from alignlab.files import read_text
from alignlab.types import EvalResult

BENCHMARK = "judge_files"

Scores = Mapping[str, float | None]


def evaluate_judge_files(scores: Path, reference: Path, *, seed: int = 0) -> list[EvalResult]:
    """Every judge metric of a score file against a reference file, the poster's columns included.

    Raises:
        BadInput: an unreadable file or record, or prompts and completions that do not match.
    """
    judged, known = read_scores(scores), read_scores(reference)
    prompts = _join(judged, known, scores, reference)
    subject = Subject(scores.name.split(".")[0], BENCHMARK, against=reference.name.split(".")[0])
    rows = quality_rows(subject, judge_quality(prompts, seed=seed))
    if len({len(p.judge) for p in prompts}) == 1:
        rows += _poster_rows(subject, poster_quality(prompts))
    return rows


def read_scores(path: Path) -> dict[str, Scores]:
    """Prompt id -> completion key -> score (None when unreadable).

    Raises:
        BadInput: no such file, an empty one, or a bad record, with its line and field.
    """
    found: dict[str, Scores] = {}
    for number, line in _lines(path):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise bad_record(path, number, None, "a JSON object", f"{error}") from None
        if not isinstance(record, dict):
            raise bad_record(path, number, None, "a JSON object", record)
        prompt = record.get("prompt_id")
        if not isinstance(prompt, str) or not prompt:
            raise bad_record(path, number, "prompt_id", "a non-empty string", prompt)
        if prompt in found:
            raise bad_record(path, number, "prompt_id", "each prompt once", f"{prompt} again")
        found[prompt] = _completion_scores(path, number, record.get("completion"))
    if not found:
        raise BadInput(f"{path}: expected one JSON record per line, found an empty file")
    return found


def _completion_scores(path: Path, number: int, completions: Any) -> Scores:
    """Read one record's scores."""
    if not isinstance(completions, dict) or not completions:
        raise bad_record(path, number, "completion", "completions by key", completions)
    scores: dict[str, float | None] = {}
    for key, completion in completions.items():
        field = f"completion.{key}"
        if not isinstance(completion, dict):
            raise bad_record(path, number, field, 'an object with a "score"', completion)
        score = completion.get("score")
        if score is not None and (
            isinstance(score, bool)
            or not isinstance(score, int | float)
            or not math.isfinite(score)
        ):
            raise bad_record(path, number, f"{field}.score", "a number or null", score)
        scores[key] = None if score is None or score < 0 else float(score)
    return scores


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number the non-empty lines of a plain or gzipped text file."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def _join(
    judged: Mapping[str, Scores], known: Mapping[str, Scores], scores: Path, reference: Path
) -> list[ScoredPrompt]:
    """Join by prompt id and completion key; both files must hold the same."""
    for ours, theirs, missing_in in ((judged, known, reference), (known, judged, scores)):
        missing = sorted(ours.keys() - theirs.keys())
        if missing:
            raise BadInput(
                f"{missing_in}: expected prompt_id {missing[0]!r} (and {len(missing) - 1} more) "
                "that the other file holds, found no such record"
            )
    prompts = []
    for prompt, one in judged.items():
        other = known[prompt]
        if one.keys() != other.keys():
            raise BadInput(
                f"{scores}, prompt_id {prompt!r}: expected completions {sorted(other)}, "
                f"found {sorted(one)}"
            )
        keys = sorted(one)
        prompts.append(
            ScoredPrompt(prompt, tuple(one[k] for k in keys), tuple(other[k] for k in keys))
        )
    return prompts


def _poster_rows(subject: Subject, quality: PosterQuality) -> list[EvalResult]:
    """The poster's columns as rows; they come without intervals, as on the poster."""
    units = {"poster_five_best": quality.fives, "poster_exact_match": quality.prompts}
    return [
        subject.row(
            f.name,
            Interval(getattr(quality, f.name), None, None, units.get(f.name, quality.scores)),
        )
        for f in fields(quality)
        if f.name.startswith("poster_")
    ]
