"""Keep a run directory: stages append records, and resume where a killed run stopped.

Work is cut into *units* (a chunk of prompts, a training run). A unit's records are written first
and then named in the stage's `commits.jsonl` with the length the record file then has; what lies
behind the last committed length was written by a run that was killed, and is cut off on resume.
So every unit is done once and only once, and the record files of a resumed run are the same bytes
as those of a run that was never killed. Times live in status.json and events.jsonl alone.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import yaml

from alignlab import meter, progress
from alignlab.errors import BadInput
from alignlab.files import cut_torn_line, lock, read_json, write_json, write_text
from alignlab.records import default_keys, read_records, to_dict, to_line
from alignlab.specs import lasting
from alignlab.types import Count, StudyDescription, Unscored, Usage

T = TypeVar("T")
S = TypeVar("S")

_SECRET = re.compile(r"://[^/\s@]+@(?!https?://)|[?&,](api_?key|password)=", re.IGNORECASE)
"""A user or a password (not the next of several MODEL@URL), or a key among an address's options."""

VERSIONED = ("alignlab", "torch", "transformers", "tokenizers", "peft", "numpy", "accelerate")


@dataclass(frozen=True)
class RunIdentity:
    """Purpose of a run directory; a resumed run must have the same."""

    recipe: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    settings: Any = None
    """The settings record that `config` was made of: settings that a run of an earlier version
    did not have yet must hold their defaults."""


class Run:
    """A run directory, or a scope inside it (a seed, a branch) with stages of its own."""

    def __init__(self, path: Path, scope: tuple[str, ...] = ()) -> None:
        self.path = path
        self.scope_names = scope
        self._stages = 0
        self._lock: int | None = None

    @classmethod
    def start(cls, path: Path, identity: RunIdentity) -> Run:
        """Make the run directory, or take up the run in it where it stopped.

        Raises:
            BadInput: the folder holds something else, or a run with another configuration.
            RunFailed: another process is working on this run.
        """
        run = cls(path)
        made = path / "config.yaml"
        if path.exists() and not made.exists() and not _barely_begun(path):
            raise BadInput(f"{path}: expected a run directory or an empty folder, found a full one")
        (path / "stages").mkdir(parents=True, exist_ok=True)
        run._lock = lock(path / ".lock", f"{path}: another process is working on this run")
        try:
            run._begin(identity)
        except BaseException:
            run.close()
            raise
        return run

    def _begin(self, identity: RunIdentity) -> None:
        """Write what the run is, or make sure that it is the same."""
        path, made = self.path, self.path / "config.yaml"
        config = yaml.safe_dump(to_dict(identity.config), sort_keys=False, allow_unicode=True)
        if _SECRET.search(config) or any(map(_SECRET.search, sys.argv)):
            raise BadInput(
                "settings: expected no password or key (settings are written to files; the key of "
                "an endpoint comes from its environment variable), found one in an address"
            )
        if made.exists():
            before = yaml.safe_load(made.read_text())
            _refuse_change(path, before, identity.config, identity.settings)
            cut_torn_line(path / "events.jsonl")
            self.event("resume")
            return
        manifest = {
            "recipe": identity.recipe,
            "command": shlex.join(["alignlab", *sys.argv[1:]]),
            "seeds": list(identity.seeds),
            "versions": _versions(),
            "machine": {"system": platform.platform(), "python": platform.python_version()},
            "inputs": {},
            "counts": [],
            "created": _now(),
        }
        write_json(path / "manifest.json", manifest)
        write_text(made, config)
        self.event("start", recipe=identity.recipe)

    def close(self) -> None:
        """Let others work on the run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def scope(self, name: str) -> Run:
        """Return a part of the run whose stages are numbered and stored apart."""
        return Run(self.path, (*self.scope_names, name))

    def stage(
        self, name: str, *, config: Any = None, inputs: Mapping[str, str] | None = None
    ) -> Stage:
        """Open the next stage of this scope, to do, to resume or (if done) to read."""
        self._stages += 1
        folder = self.path.joinpath("stages", *self.scope_names, f"{self._stages:02d}-{name}")
        return Stage(self, folder, {"name": name, "config": config, "inputs": inputs or {}})

    def event(self, event: str, **details: Any) -> None:
        """Append one line to events.jsonl."""
        line = json.dumps({"time": _now(), "event": event, **details}) + "\n"
        with (self.path / "events.jsonl").open("a") as file:
            file.write(line)

    def describe(self, study: StudyDescription) -> None:
        """Write what the run asks and compares, for the report."""
        write_json(self.path / "study.json", to_dict(study))

    def add_inputs(self, files: Mapping[str, str]) -> None:
        """Record the files that the run reads by path and SHA-256.

        Raises:
            BadInput: the run was started with other contents of one of them.
        """
        manifest = read_json(self.path / "manifest.json")
        for path, digest in files.items():
            known = manifest["inputs"].get(path, digest)
            if known != digest:
                raise BadInput(f"{path}: changed since this run was started; use another out=")
            manifest["inputs"][path] = digest
        write_json(self.path / "manifest.json", manifest)

    def finish(self) -> None:
        """Gather the stages' counts into the manifest and mark the run as done."""
        manifest = read_json(self.path / "manifest.json")
        files = sorted((self.path / "stages").rglob("counts.jsonl"))
        manifest["counts"] = [json.loads(line) for f in files for line in f.open()]
        write_json(self.path / "manifest.json", manifest)
        self.event("done")


@dataclass(frozen=True)
class Changed(Generic[T]):
    """A record that was changed on its way, with the reason; `Stage.map` counts it."""

    record: T
    reason: str


class Stage:
    """One step of a run; use as a context manager: leaving it without an error marks it done."""

    def __init__(self, run: Run, path: Path, identity: Mapping[str, Any]) -> None:
        self.run = run
        self.path = path
        self.name = "/".join(path.relative_to(run.path / "stages").parts)
        self.identity = identity
        self._files: dict[str, RecordFile[Any]] = {}
        self._usage = Usage()
        self._seconds = 0.0
        self._ends: dict[str, int] = {}
        self._units: dict[str, set[str]] = {}

    def __enter__(self) -> Stage:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self.path / ".lock", f"{self.name}: another process works on this stage")
        try:
            self._open()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def _open(self) -> None:
        known = self.path / "config.json"
        if known.exists():
            _refuse_change(known, read_json(known), self.identity, self.identity)
        else:
            write_json(known, to_dict(self.identity))
        status = self.path / "status.json"
        self.done = status.exists() and read_json(status)["state"] == "done"
        self._read_commits()
        if not self.done:
            write_json(status, {"state": "running"})
            self.run.event("stage", stage=self.name)
        self._since = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self.done:
                self._finish()
            elif kind is not None:
                # On a full disk this fails like the work before it, whose error is raised.
                with suppress(OSError):
                    self.run.event("failed", stage=self.name, error=f"{kind.__name__}: {error}")
        finally:
            os.close(self._lock)

    def _finish(self) -> None:
        self._seconds += time.monotonic() - self._since
        status = {
            "state": "done",
            "seconds": round(self._seconds, 3),
            "usage": asdict(self._usage),
            "records": {name: file.count() for name, file in sorted(self._files.items())},
        }
        write_json(self.path / "status.json", status)
        self.run.event("done", stage=self.name, seconds=status["seconds"])
        self.done = True

    def records(self, name: str, cls: type[T]) -> RecordFile[T]:
        """Return the stage's file of records of one kind."""
        filename = f"{name}.jsonl"
        file = RecordFile(self, filename, cls)
        if not self.done:
            file.truncate(self._ends.get(filename, 0))
        self._files[filename] = file
        return file

    def write(self, name: str, cls: type[T], records: Iterable[T]) -> list[T]:
        """Write a whole file of records as one unit (once), and return what it holds."""
        file = self.records(name, cls)
        if "all" not in file.units:
            file.append("all", list(records))
        return file.read()

    def once(
        self, name: str, cls: type[T], work: Callable[[], Sequence[T]], *, title: str
    ) -> list[T]:
        """Do work whose records are written as one unit, and return the file's records.

        Args:
            name: name of the record file, without its ending.
            title: title of the progress bar.
        """
        file = self.records(name, cls)
        if "all" not in file.units:
            before = meter.mark()
            with progress.task(title, 1):
                file.append("all", work(), meter.since(before))
        return file.read()

    def map(
        self,
        name: str,
        cls: type[T],
        items: Sequence[S],
        work: Callable[[Sequence[S]], Sequence[T | Changed[T] | Unscored]],
        *,
        chunk: int,
        title: str,
    ) -> list[T]:
        """Work through items chunk by chunk, each chunk written once, and return all records.

        Reasons of what is `Unscored` are counted in the stage's file "lost", chunk by chunk.

        Args:
            name: name of the record file, without its ending.
            chunk: items per unit; the same in every run of the stage.
            title: title of the progress bar.
        """
        file = self.records(name, cls)
        parts = [(str(i // chunk), items[i : i + chunk]) for i in range(0, len(items), chunk)]
        todo = [(unit, some) for unit, some in parts if unit not in file.units]
        if not todo:
            return file.read()
        with progress.task(title, len(items)) as bar:
            bar.advance(len(items) - sum(len(some) for _, some in todo))
            for unit, some in todo:
                before = meter.mark()
                found = work(some)
                lost = Counter(f.reason for f in found if isinstance(f, Unscored))
                changed = Counter(f.reason for f in found if isinstance(f, Changed))
                if lost or changed:
                    self._tally(unit, lost, changed)
                made = [
                    f.record if isinstance(f, Changed) else f
                    for f in found
                    if not isinstance(f, Unscored)
                ]
                file.append(unit, made, meter.since(before))
                bar.advance(len(some))
        return file.read()

    def _tally(self, unit: str, lost: Mapping[str, int], changed: Mapping[str, int]) -> None:
        """Count a unit's losses and changes; before the unit, as a repeated unit counts once."""
        file = self.records("lost", Count)
        if unit not in file.units:
            file.append(unit, [Count(self.name, "lost", 0, dict(lost), dict(changed))])

    def lost(self) -> dict[str, int]:
        """Return how many items were lost to `map`, by reason."""
        total: Counter[str] = Counter()
        for count in self.records("lost", Count).read():
            total.update(count.dropped)
        return dict(total)

    def changed(self) -> dict[str, int]:
        """Return how many records `map` changed, by reason."""
        total: Counter[str] = Counter()
        for count in self.records("lost", Count).read():
            total.update(count.changed)
        return dict(total)

    def count(self, counts: Sequence[Count]) -> None:
        """Keep what was kept and dropped; it goes into the manifest."""
        self.write("counts", Count, counts)

    def spend(self, usage: Usage) -> None:
        """Add to what this stage has spent, outside of committed units."""
        self._usage += usage

    def commit(self, filename: str, unit: str, end: int, usage: Usage) -> None:
        now = time.monotonic()
        line = {
            "file": filename,
            "unit": unit,
            "end": end,
            "seconds": round(now - self._since, 3),
            "usage": asdict(usage),
        }
        with (self.path / "commits.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._account(line)
        self._since = now

    def units(self, filename: str) -> set[str]:
        return self._units.setdefault(filename, set())

    def _account(self, line: Mapping[str, Any]) -> None:
        self._ends[line["file"]] = line["end"]
        self.units(line["file"]).add(line["unit"])
        self._usage += Usage(**line["usage"])
        self._seconds += line["seconds"]

    def _read_commits(self) -> None:
        path = self.path / "commits.jsonl"
        if not path.exists():
            return
        whole = 0
        for raw in path.read_bytes().splitlines(keepends=True):
            if not raw.endswith(b"\n"):
                break
            whole += len(raw)
            self._account(json.loads(raw))
        os.truncate(path, whole)


class RecordFile(Generic[T]):
    """An append-only JSONL file of one kind of record, written unit by unit."""

    def __init__(self, stage: Stage, filename: str, cls: type[T]) -> None:
        self.stage = stage
        self.path = stage.path / filename
        self.cls = cls

    @property
    def units(self) -> set[str]:
        """The units already written."""
        return self.stage.units(self.path.name)

    def append(self, unit: str, records: Sequence[T], usage: Usage | None = None) -> None:
        """Write the records of a unit and commit it; a unit is written once."""
        if unit in self.units:
            raise ValueError(f"{self.path}: unit {unit!r} is already written")
        with self.path.open("ab") as file:
            for record in records:
                file.write(to_line(record).encode())
            file.flush()
            end = file.tell()
        self.stage.commit(self.path.name, unit, end, usage or Usage())

    def read(self) -> list[T]:
        """Return all records, in the order written."""
        return list(read_records(self.path, self.cls))

    def count(self) -> int:
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            return sum(1 for _ in file)

    def truncate(self, end: int) -> None:
        """Cut off what a killed run left behind the last committed unit."""
        if self.path.exists() and self.path.stat().st_size > end:
            os.truncate(self.path, end)


def slug(name: str) -> str:
    """Return the file name for a model's name: "M2 (3 samples)" -> "m2-3-samples"."""
    kept = "".join(c if c.isalnum() else " " for c in name.lower())
    return "-".join(kept.split())


def _barely_begun(path: Path) -> bool:
    """Return whether a folder holds nothing but what a run killed at its start leaves there."""
    own = {"stages", ".lock", "manifest.json"}
    left = {p.name for p in path.iterdir() if not p.name.startswith((".manifest.", ".config."))}
    begun = "stages" in left and left <= own and not any((path / "stages").iterdir())
    return begun or not left


def _refuse_change(where: Path, before: Any, now: Any, settings: Any) -> None:
    """Refuse the first setting that differs from what the run was started with.

    A setting that was not there yet, and holds its default in the settings, is no difference.
    """
    difference = _first_difference(before, to_dict(now), set(default_keys(settings)))
    if difference:
        key, old, new = difference
        raise BadInput(
            f"{where}: this run was started with {key}={old!r}, found {new!r}; "
            "use another out= for another configuration"
        )


def _first_difference(
    a: Any, b: Any, defaults: Set[str], key: str = ""
) -> tuple[str, Any, Any] | None:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            inner = f"{key}.{name}".lstrip(".")
            if name not in a and inner in defaults:
                continue
            found = _first_difference(a.get(name), b.get(name), defaults, inner)
            if found:
                return found
        return None
    if isinstance(a, str) and isinstance(b, str) and lasting(a) == lasting(b):
        return None
    return None if a == b else (key or "value", a, b)


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in VERSIONED}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
