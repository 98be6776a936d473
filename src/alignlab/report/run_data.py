"""Read a run directory into typed records; a run that is still going can be read too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from alignlab.errors import BadInput
from alignlab.integrity import refuse_damage
from alignlab.plan import PlanAccuracy
from alignlab.records import from_dict, whole_lines, whole_records
from alignlab.redo import is_finished, seconds_at_work
from alignlab.runs import slug
from alignlab.text import without_folders
from alignlab.types import (
    Audit,
    Count,
    Drift,
    EvalResult,
    Example,
    ScalePoint,
    StudyDescription,
    Usage,
)

T = TypeVar("T")

SUMMARY_SCOPE = "summary"
PEOPLE = "people/results.jsonl"
"""File with the figures of people's ratings, below a run directory."""


@dataclass(frozen=True)
class Manifest:
    """Manifest of a run: recipe, command, seeds, versions, inputs."""

    recipe: str
    command: str = ""
    seeds: tuple[int, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    """Model -> type and device that it computed in."""
    created: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """Plan of the first session, as its fields; empty for a run without one."""
    outcome: PlanAccuracy | None = None
    """Planned and actual costs; None for an unfinished run or one of 0.1."""


@dataclass(frozen=True)
class StageRecord:
    """One stage of a run and what it spent."""

    path: str
    """Below `stages/`, with `/` between scopes."""
    state: str = "running"
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Processor time of the stage's process; 0 where none was noted."""
    usage: Usage = field(default_factory=Usage)
    records: Mapping[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The path without its seed and without the stage's number: equal for all seeds."""
        return label_of(self.path)


@dataclass(frozen=True)
class Curve:
    """The training metrics of one stage, one mapping per logged step."""

    stage: str
    steps: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class RunData:
    """Everything that the report shows, as read."""

    path: Path
    manifest: Manifest
    study: StudyDescription
    config: str
    """config.yaml as it is."""
    stages: tuple[StageRecord, ...]
    results: tuple[EvalResult, ...]
    """The rows that are shown: see `shown`."""
    other_results: Mapping[str, tuple[EvalResult, ...]]
    """Rows of nested scopes (single seeds, branches) that are not shown, by stage."""
    audits: tuple[Audit, ...]
    examples: tuple[Example, ...]
    curves: tuple[Curve, ...]
    counts: Mapping[str, Sequence[Count]]
    """By stage."""
    drifts: tuple[Drift, ...]
    """Policies step by step, of all stages."""
    wall_seconds: float
    finished: bool
    scaling: tuple[ScalePoint, ...] = ()
    """Points of scaling curves, measured and fitted."""


def _study(file: Path, manifest: Manifest) -> StudyDescription:
    """Read the description of a study, its models named without folders."""
    if not file.exists():
        return StudyDescription(manifest.recipe, "", "")
    found = _typed(StudyDescription, file)
    return replace(found, models={name: without_folders(how) for name, how in found.models.items()})


def read_run(path: Path) -> RunData:
    """Read a run directory.

    Raises:
        BadInput: not a run directory, a damaged one, or a record that cannot be read (file, line,
            field).
    """
    if not any((path / name).is_file() for name in ("manifest.json", "config.yaml")):
        raise BadInput(f"{path}: expected a run directory with a manifest.json, found none")
    refuse_damage(path)
    manifest = _typed(Manifest, path / "manifest.json")
    results = _by_stage(path, "results.jsonl", EvalResult)
    shown_results = shown(results)
    wall, finished = _times(path / "events.jsonl")
    return RunData(
        path=path,
        manifest=manifest,
        study=_study(path / "study.json", manifest),
        config=_text(path / "config.yaml"),
        stages=tuple(_stage(path, file) for file in _files(path, "status.json")),
        results=(*_flat(shown_results), *whole_records(path / PEOPLE, EvalResult)),
        other_results={k: tuple(v) for k, v in results.items() if k not in shown_results},
        audits=_flat(shown(_by_stage(path, "audit.jsonl", Audit))),
        examples=_flat(shown(_by_stage(path, "examples.jsonl", Example))),
        curves=tuple(
            Curve(_stage_path(path, file), tuple(_metrics(file)))
            for file in _files(path, "metrics.jsonl")
        ),
        counts=_by_stage(path, "counts.jsonl", Count),
        drifts=_flat(_by_stage(path, "drift.jsonl", Drift)),
        wall_seconds=wall,
        finished=finished,
        scaling=_flat(shown(_by_stage(path, "scaling.jsonl", ScalePoint))),
    )


def shown(by_stage: Mapping[str, T]) -> dict[str, T]:
    """The stages whose records the report shows, of all stages that have some.

    Those of stages directly below `stages/` or in the scope `summary`: there a run pools its
    seeds and branches. Only when there are none, the records of all stages are shown.
    """
    top = {
        stage: records
        for stage, records in by_stage.items()
        if "/" not in stage or stage.split("/")[0] == SUMMARY_SCOPE
    }
    return top or dict(by_stage)


def label_of(stage: str) -> str:
    """A stage's path without its seed scope and without numbers in front of names."""
    parts = [p for p in stage.split("/") if not p.removeprefix("seed-").isdigit()]
    number, dash, name = parts[-1].partition("-")
    return " / ".join([*parts[:-1], name if dash and number.isdigit() else parts[-1]])


def words_of(stage: str, models: Iterable[str] = ()) -> str:
    """A stage in words: the model that it trains, or what it does, and in which branch.

    Args:
        models: models of the study, whose names appear in the names of stages as slugs.
    """
    *scopes, name = label_of(stage).split(" / ")
    for model in sorted(models, key=len, reverse=True):
        if name == slug(model):
            return model
        if name.endswith(f"-{slug(model)}"):
            name = f"{name.removesuffix(slug(model)).replace('-', ' ')}{model}"
            break
    else:
        name = name.replace("-", " ").replace("_", " ")
    branch = ", ".join(scope.replace("_", " ").replace("-", " ") for scope in scopes)
    return f"{name} ({branch})" if branch else name


def _flat(by_stage: Mapping[str, Iterable[T]]) -> tuple[T, ...]:
    return tuple(record for records in by_stage.values() for record in records)


def _files(run: Path, name: str) -> list[Path]:
    """All files of a name below `stages/`, in the order of their stages."""
    return sorted((run / "stages").rglob(name))


def _stage_path(run: Path, file: Path) -> str:
    return "/".join(file.parent.relative_to(run / "stages").parts)


def _by_stage(run: Path, name: str, cls: type[T]) -> dict[str, list[T]]:
    """Records of one kind by stage."""
    return {_stage_path(run, file): list(whole_records(file, cls)) for file in _files(run, name)}


def _metrics(file: Path) -> list[dict[str, float]]:
    """Training metrics, with what is no number left out."""
    return [
        {k: float(v) for k, v in json.loads(line).items() if isinstance(v, int | float)}
        for _, line in whole_lines(file)
    ]


def _stage(run: Path, status: Path) -> StageRecord:
    plain = json.loads(_text(status))
    return StageRecord(
        path=_stage_path(run, status),
        state=plain.get("state", "running"),
        seconds=float(plain.get("seconds", 0.0)),
        cpu_seconds=float(plain.get("cpu_seconds", 0.0)),
        usage=from_dict(Usage, plain.get("usage", {})),
        records=plain.get("records", {}),
    )


def _typed(cls: type[T], file: Path) -> T:
    try:
        return from_dict(cls, json.loads(_text(file)))
    except (json.JSONDecodeError, ValidationError) as error:
        raise BadInput(f"{file}: expected a {cls.__name__}, found {str(error)[:120]!r}") from None


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _times(events: Path) -> tuple[float, bool]:
    """Seconds at work (pauses between a stop and a resume left out), and whether it is done."""
    found = [json.loads(line) for _, line in whole_lines(events)]
    return seconds_at_work(found), is_finished(found)
