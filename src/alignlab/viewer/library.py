"""Find the runs below a folder and keep an index of each, outside the run directories."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import regex
from pydantic import ValidationError

from alignlab.errors import BadInput
from alignlab.records import from_dict, whole_lines
from alignlab.redo import is_finished
from alignlab.report.run_data import Manifest, StageRecord, shown
from alignlab.report.run_settings import read_settings
from alignlab.run_models import is_run
from alignlab.types import EvalResult, StudyDescription, Usage
from alignlab.viewer.index import Index

DEPTH = 3
"""Maximum depth below the folder at which runs are found."""
QUIET_SECONDS = 120.0
"""Seconds without a record after which an unfinished run counts as stopped."""
_MATCH_SECONDS = 0.05
"""Time limit of a regular expression on one text; above it, the search is refused."""


@dataclass(frozen=True)
class StageState(StageRecord):
    """Stage of a run, `done`, `running` or `stopped`."""

    units: int = 0
    """Committed units of work; 0 for a stage that is done."""

    @property
    def depth(self) -> int:
        """Number of scopes around the stage."""
        return self.path.count("/")


@dataclass(frozen=True)
class RunState:
    """Run, as the list of runs shows it."""

    key: str
    """Name in addresses."""
    name: str
    """Path below the folder."""
    path: Path
    manifest: Manifest
    study: StudyDescription
    state: str
    """`done`, `running` or `stopped`."""
    quiet: float
    """Seconds since the last record."""
    stages: tuple[StageState, ...]
    results: tuple[EvalResult, ...]
    settings: Mapping[str, Any]
    """Settings by dotted name."""

    @property
    def has_ratings(self) -> bool:
        """Return whether people were asked to rate its answers."""
        return (self.path / "people").is_dir()

    @property
    def done(self) -> int:
        """Number of finished stages."""
        return sum(s.state == "done" for s in self.stages)

    @property
    def seconds(self) -> float:
        """Seconds spent in all stages."""
        return sum(s.seconds for s in self.stages)

    @property
    def usage(self) -> Usage:
        """Tokens and calls of all stages."""
        total = Usage()
        for stage in self.stages:
            total += stage.usage
        return total


class Library:
    """Runs below a folder, or the one run that the folder is.

    Raises:
        BadInput: there is no such folder, or no run in it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BadInput(f"{folder}: expected a folder of runs, found none")
        self.folder = folder.resolve()
        self._indexes: dict[Path, Index] = {}
        self._frozen: dict[str, RunState] = {}
        self._lock = threading.Lock()
        if not self.paths():
            raise BadInput(f"{folder}: expected a run directory or a folder of them, found none")

    def paths(self) -> dict[str, Path]:
        """Return the runs by their names in addresses."""
        if is_run(self.folder):
            return {self.folder.name: self.folder}
        found = sorted(
            path.parent
            for depth in range(1, DEPTH + 1)
            for path in self.folder.glob("/".join(["*"] * depth) + "/manifest.json")
            if is_run(path.parent)
        )
        return {"~".join(p.relative_to(self.folder).parts): p for p in found}

    def freeze(self) -> None:
        """Stop looking for changes, so that many pages are made quickly and of one state."""
        for key in self.paths():
            self.index(key)
        self._frozen = {key: self.run(key) for key in self.paths()}

    def run(self, key: str) -> RunState:
        """Return one run.

        Raises:
            KeyError: no such run.
            BadInput: a damaged file.
        """
        if self._frozen:
            return self._frozen[key]
        path = self.paths()[key]
        with damage_named(path):
            return read_state(key, path)

    def runs(self) -> tuple[list[RunState], list[str]]:
        """Return the runs that can be read, the latest first, and the faults of the others."""
        found, faults = [], []
        for key in self._frozen or self.paths():
            try:
                found.append(self.run(key))
            except BadInput as error:
                faults.append(str(error))
        return sorted(found, key=lambda r: r.manifest.created, reverse=True), faults

    def index(self, key: str) -> Index:
        """Return the index of a run, brought up to date.

        Raises:
            KeyError: no such run.
        """
        if self._frozen:
            return self._indexes[self._frozen[key].path]
        path = self.paths()[key]
        with self._lock:
            index = self._indexes.get(path)
            if index is None:
                index = self._indexes[path] = Index(path, self._place(path))
                index.function("matches", 2, _matches)
        with damage_named(path):
            index.update()
        return index

    def _place(self, run: Path) -> Path:
        """Return the path of a run's index: next to the runs, or in a temporary folder."""
        name = f"{run.name}-{hashlib.sha256(str(run).encode()).hexdigest()[:8]}.sqlite"
        folder = (run.parent if run == self.folder else self.folder) / ".alignlab-index"
        try:
            folder.mkdir(exist_ok=True)
            sqlite3.connect(folder / name).close()
        except (OSError, sqlite3.Error):
            folder = Path(tempfile.mkdtemp(prefix="alignlab-index-"))
        return folder / name

    def close(self) -> None:
        """Close all indexes."""
        for index in self._indexes.values():
            index.close()


@contextmanager
def damage_named(run: Path) -> Iterator[None]:
    """Name the run in the error of a file that cannot be read.

    Raises:
        BadInput: a damaged file.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise BadInput(f"{run}: expected a run's files, found a damaged one ({reason})") from error


def read_state(key: str, path: Path) -> RunState:
    """Read what a run is and how far it got, without its records."""
    finished, last = _events(path)
    quiet = (datetime.now(UTC) - last).total_seconds() if last else 0.0
    state = "done" if finished else ("running" if quiet < QUIET_SECONDS else "stopped")
    return RunState(
        key=key,
        name=key.replace("~", "/"),
        path=path,
        manifest=_read(Manifest, path / "manifest.json") or Manifest("unknown"),
        study=_read(StudyDescription, path / "study.json") or StudyDescription("", "", ""),
        state=state,
        quiet=max(quiet, 0.0),
        stages=tuple(
            _stage(path, file, state) for file in sorted((path / "stages").rglob("status.json"))
        ),
        results=_results(path),
        settings=read_settings(path),
    )


def _results(path: Path) -> tuple[EvalResult, ...]:
    by_stage: dict[str, list[EvalResult]] = {}
    for file in sorted((path / "stages").rglob("results.jsonl")):
        stage = file.parent.relative_to(path / "stages").as_posix()
        by_stage[stage] = [from_dict(EvalResult, json.loads(line)) for _, line in whole_lines(file)]
    return tuple(row for rows in shown(by_stage).values() for row in rows)


def _stage(run: Path, status: Path, state: str) -> StageState:
    plain = json.loads(status.read_text())
    is_done = plain.get("state") == "done"
    commits = status.with_name("commits.jsonl")
    # A stage that is done states the sums of its units.
    units = [] if is_done else [json.loads(line) for _, line in whole_lines(commits)]
    usage = Usage()
    for unit in units:
        usage += Usage(**unit["usage"])

    def seconds(name: str) -> float:
        return float(plain.get(name, sum(unit.get(name, 0.0) for unit in units)))

    return StageState(
        path=status.parent.relative_to(run / "stages").as_posix(),
        state="done" if is_done else ("running" if state == "running" else "stopped"),
        seconds=seconds("seconds"),
        cpu_seconds=seconds("cpu_seconds"),
        usage=from_dict(Usage, plain["usage"]) if "usage" in plain else usage,
        records=plain.get("records", {}),
        units=len(units),
    )


def _events(path: Path) -> tuple[bool, datetime | None]:
    """Return whether a run is finished, and the time of its last sign of life."""
    found = [json.loads(line) for _, line in whole_lines(path / "events.jsonl")]
    last = datetime.fromisoformat(found[-1]["time"]) if found else None
    if is_finished(found):
        return True, last
    written = [
        datetime.fromtimestamp(p.stat().st_mtime, UTC)
        for p in (path / "stages").rglob("*.jsonl")
        if p.name in ("commits.jsonl", "metrics.jsonl")
    ]
    return False, max([*written, *([last] if last else [])], default=None)


def _read(cls: Any, path: Path) -> Any:
    """Read a record; None if it is missing or being written."""
    try:
        return from_dict(cls, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError, ValidationError):
        return None


def _matches(pattern: str, text: str | None) -> bool:
    """Search a text for a regular expression, case-insensitively and for a limited time.

    Raises:
        TimeoutError: the expression takes too long on this text.
    """
    return bool(_compiled(pattern).search(text or "", timeout=_MATCH_SECONDS))


@lru_cache(maxsize=8)
def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.IGNORECASE)


def check_pattern(pattern: str) -> None:
    """Refuse a regular expression that cannot be compiled.

    Raises:
        BadInput: the position and the reason.
    """
    try:
        _compiled(pattern)
    except regex.error as error:
        raise BadInput(f"q: expected a regular expression, found {pattern!r} ({error})") from None
