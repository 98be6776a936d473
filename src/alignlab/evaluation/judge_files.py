"""Comparison of a judge's score file with a reference's: `alignlab evaluate judge_scores`.

A file holds one prompt per row (JSONL or JSON, gzipped or not):

    {"prompt_id": "...", "completion": {"0": {"content": "...", "score": 4}, "1": {...}, ...}}

Rows are joined by `prompt_id` and completions by key, or by `content` where both files hold it and
their keys disagree. Rows of only one file are left out and counted. `score` null, absent or
negative is a score that could not be read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from alignlab.errors import BadInput
from alignlab.evaluation.judge_rows import quality_rows
from alignlab.evaluation.metrics.intervals import Interval
from alignlab.evaluation.metrics.judge_quality import ScoredPrompt, judge_quality
from alignlab.evaluation.metrics.poster import PosterQuality, poster_quality
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_files import BenchmarkRow, read_rows
from alignlab.types import EvalResult

BENCHMARK = "judge_files"


class ScoredCompletion(NamedTuple):
    """Response with its score."""

    content: str | None
    score: float | None
    """Score; None where it could not be read."""


@dataclass(frozen=True)
class ScoredRow:
    """Prompt of a score file with its completions."""

    prompt: str | None
    """Text of the prompt, where the file holds it."""
    completions: Mapping[str, ScoredCompletion]


class Joined(NamedTuple):
    """Scored responses that two files share, and counts of those that only one holds."""

    prompts: list[ScoredPrompt]
    prompts_left_out: int
    completions_left_out: int
    """Number of completions in only one file, of the prompts that both hold."""


def evaluate_judge_files(scores: Path, reference: Path, *, seed: int = 0) -> list[EvalResult]:
    """Return every judge metric of a score file against a reference file, the poster's included.

    Raises:
        BadInput: an unreadable file or record, texts that contradict the ids, or files that share
            no scored response.
    """
    found = _join(read_scores(scores), read_scores(reference), scores, reference)
    subject = Subject(scores.name.split(".")[0], BENCHMARK, against=reference.name.split(".")[0])
    quality = judge_quality(found.prompts, seed=seed)
    rows = quality_rows(subject, quality) + _poster_rows(subject, poster_quality(found.prompts))
    counts = {
        "unreferenced": quality.unreferenced,
        "prompts_left_out": found.prompts_left_out,
        "completions_left_out": found.completions_left_out,
    }
    total = sum(len(prompt.judge) for prompt in found.prompts)
    return rows + [subject.count(name, float(n), total) for name, n in counts.items() if n]


def read_scores(path: Path) -> dict[str, ScoredRow]:
    """Read a score file: prompt id -> its scored completions.

    Raises:
        BadInput: no such file, an empty one, or a bad record, with its line and field.
    """
    found: dict[str, ScoredRow] = {}
    for row in read_rows(path):
        prompt_id = row.key("prompt_id").strip()
        if not prompt_id or prompt_id in found:
            why = f"{prompt_id} again" if prompt_id else "an empty one"
            raise row.bad("prompt_id", "each prompt once", why)
        found[prompt_id] = ScoredRow(_stripped(row, "prompt"), _completions(row))
    return found


def _completions(row: BenchmarkRow) -> dict[str, ScoredCompletion]:
    completions = row.values.get("completion")
    if not isinstance(completions, dict) or not completions:
        raise row.bad("completion", "completions by key", completions)
    return {key: _completion(row, key, value) for key, value in completions.items()}


def _completion(row: BenchmarkRow, key: str, completion: Any) -> ScoredCompletion:
    field = f"completion.{key}"
    if not isinstance(completion, dict):
        raise row.bad(field, 'an object with a "score"', completion)
    score = completion.get("score")
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if score is not None and not (is_number and abs(score) <= sys.float_info.max):
        raise row.bad(f"{field}.score", "a number or null", score)
    content = _stripped(BenchmarkRow(row.file, row.line, completion), "content")
    return ScoredCompletion(content, None if score is None or score < 0 else float(score))


def _stripped(row: BenchmarkRow, field: str) -> str | None:
    """Read a text without the blanks around it; None where there is none."""
    return None if row.values.get(field) is None else (row.maybe(field) or "").strip()


def _join(
    judged: Mapping[str, ScoredRow], known: Mapping[str, ScoredRow], scores: Path, reference: Path
) -> Joined:
    """Join the responses that both files hold."""
    prompts: list[ScoredPrompt] = []
    left_out = 0
    for prompt_id in (key for key in judged if key in known):
        one, other = judged[prompt_id], known[prompt_id]
        if None not in (one.prompt, other.prompt) and one.prompt != other.prompt:
            raise BadInput(
                f"{scores}, prompt_id {prompt_id!r}: expected the same prompt as in {reference}, "
                f"found {str(one.prompt)[:60]!r}"
            )
        pairs = _paired(one.completions, other.completions)
        left_out += len(one.completions) + len(other.completions) - 2 * len(pairs)
        if pairs:
            ours, theirs = zip(*pairs, strict=True)
            prompts.append(ScoredPrompt(prompt_id, ours, theirs, one.prompt or other.prompt or ""))
    if not prompts:
        raise BadInput(f"{scores}: expected scores of responses in {reference}, found none")
    return Joined(prompts, len(judged.keys() ^ known.keys()), left_out)


def _paired(
    ours: Mapping[str, ScoredCompletion], theirs: Mapping[str, ScoredCompletion]
) -> list[tuple[float | None, float | None]]:
    """Pair scores by key, or by content where a key has another content in the other file."""
    shared = sorted(ours.keys() & theirs.keys())
    if all(
        None in (ours[k].content, theirs[k].content) or ours[k].content == theirs[k].content
        for k in shared
    ):
        return [(ours[k].score, theirs[k].score) for k in shared]
    by_content = {c.content: c.score for c in theirs.values()}
    own = {c.content: c.score for c in ours.values()}
    return [(own[text], by_content[text]) for text in own if text and text in by_content]


def _poster_rows(subject: Subject, quality: PosterQuality) -> list[EvalResult]:
    """Return the poster's columns as rows; they come without intervals, as on the poster."""
    units = {"poster_five_best": quality.fives, "poster_exact_match": quality.prompts}
    return [
        subject.row(
            f.name,
            Interval(getattr(quality, f.name), None, None, units.get(f.name, quality.scores)),
        )
        for f in fields(quality)
        if f.name.startswith("poster_")
    ]
