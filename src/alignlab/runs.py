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
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import yaml

from alignlab import integrity, meter, progress
from alignlab.at_once import in_order
from alignlab.changed_settings import refuse_change
from alignlab.errors import BadInput
from alignlab.files import (
    append_line,
    cut_torn_line,
    exclusively,
    file_digest,
    lock,
    read_json,
    write_json,
    write_text,
)
from alignlab.leases import NAME as LEASE
from alignlab.leases import Lease
from alignlab.records import read_records, to_dict, to_line
from alignlab.redo import events, redo_later, redo_left, timestamp
from alignlab.run_identity import RunIdentity as RunIdentity
from alignlab.run_identity import config_text, new_manifest
from alignlab.stage_integrity import content, digests, line_sums, seal
from alignlab.types import Count, StudyDescription, Unscored, Usage

T = TypeVar("T")
S = TypeVar("S")


class Run:
    """A run directory, or a scope inside it (a seed, a branch) with stages of its own."""

    def __init__(self, path: Path, scope: tuple[str, ...] = ()) -> None:
        self.path = path
        self.scope_names = scope
        self._stages = 0
        self._lock: int | None = None
        self.lease: Lease | None = None
        """Hold on the run directory across machines; None in a worker, whose parent has it."""

    @classmethod
    def start(cls, path: Path, identity: RunIdentity, *, repair: bool = False) -> Run:
        """Make the run directory, or take up the run in it where it stopped.

        Args:
            repair: empty damaged stages, so that they are done again.

        Raises:
            BadInput: the folder holds something else, a run with another configuration, or one
                that is damaged.
            RunFailed: another process is working on this run, on this machine or another.
        """
        run = cls(path)
        if path.exists() and not path.is_dir():
            raise BadInput(f"{path}: expected a run directory or an empty folder, found a file")
        begun = path.exists() and not _barely_begun(path)
        if begun and not any((path / name).exists() for name in ("config.yaml", "events.jsonl")):
            raise BadInput(f"{path}: expected a run directory or an empty folder, found a full one")
        (path / "stages").mkdir(parents=True, exist_ok=True)
        run._lock = lock(path / ".lock", f"{path}: another process is working on this run")
        try:
            os.utime(path / ".lock")
            run.lease = Lease.take(path)
            if begun:
                run._take_up(identity, repair or integrity.repairs())
            else:
                run._begin(identity)
        except BaseException:
            run.close()
            raise
        return run

    def _take_up(self, identity: RunIdentity, repair: bool) -> None:
        """Make sure that the run is the same and whole, or empty what is damaged."""
        path = self.path
        config = config_text(identity)
        redo_left(path)
        # What a run asks is written again by every session.
        found = [d for d in integrity.damages(path) if d.file.name != "study.json"]
        if not repair:
            integrity.raise_first(path, found, identity.recipe)
        known = path / "config.yaml"
        if known in [damage.file for damage in found]:
            write_text(known, config)
        before = yaml.safe_load(known.read_text())
        try:
            refuse_change(path, before, identity.config, identity.settings, identity.given)
        except BadInput:
            # Settings of another command have nothing to do with these.
            refuse_other_recipe(path, identity.recipe)
            raise
        cut_torn_line(path / "events.jsonl")
        if found:
            integrity.repair(path, found, new_manifest(identity))
            self._note_file("config.yaml")
        self.event("resume")

    def _begin(self, identity: RunIdentity) -> None:
        """Write what the run is."""
        config, manifest = config_text(identity), new_manifest(identity)
        write_json(self.path / "manifest.json", seal(manifest))
        write_text(self.path / "config.yaml", config)
        self.event("start", recipe=identity.recipe, manifest=manifest)  # restores a lost one
        self._note_file("config.yaml")

    def close(self) -> None:
        """Let others work on the run."""
        if self.lease is not None:
            self.lease.release()
            self.lease = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def scope(self, name: str) -> Run:
        """Return a part of the run whose stages are numbered and stored apart."""
        part = Run(self.path, (*self.scope_names, name))
        part.lease = self.lease
        return part

    @property
    def stages_folder(self) -> Path:
        """Return the folder of this scope's stages."""
        return self.path.joinpath("stages", *self.scope_names)

    @property
    def opened(self) -> int:
        """Return how many stages of this scope were opened."""
        return self._stages

    def skip(self, stages: int) -> None:
        """Number the next stage after so many, which another process opened."""
        self._stages = stages

    def stage(
        self, name: str, *, config: Any = None, inputs: Mapping[str, str] | None = None
    ) -> Stage:
        """Open the next stage of this scope, to do, to resume or (if done) to read."""
        self._stages += 1
        folder = self.stages_folder / f"{self._stages:02d}-{name}"
        return Stage(self, folder, {"name": name, "config": config, "inputs": inputs or {}})

    def event(self, event: str, **details: Any) -> None:
        """Append one line to events.jsonl."""
        line = json.dumps({"time": timestamp(), "event": event, **details}) + "\n"
        append_line(self.path / "events.jsonl", line)

    def describe(self, study: StudyDescription) -> None:
        """Write what the run asks and compares, for the report."""
        write_json(self.path / "study.json", to_dict(study))
        self._note_file("study.json")

    def _note_file(self, name: str) -> None:
        """Keep the hash of one of the run's own files."""
        files = self.manifest().get("files", {})
        self.change_manifest(files={**files, name: file_digest(self.path / name)})

    def manifest(self) -> dict[str, Any]:
        """Return the manifest."""
        found: dict[str, Any] = read_json(self.path / "manifest.json")
        return found

    def change_manifest(self, **values: Any) -> None:
        """Set values of the manifest."""
        write_json(self.path / "manifest.json", seal({**self.manifest(), **values}))

    def add_inputs(self, files: Mapping[str, str]) -> None:
        """Record the files that the run reads by path and SHA-256.

        Raises:
            BadInput: the run was started with other contents of one of them.
        """
        with exclusively(self.path / "config.yaml"):
            inputs = self.manifest()["inputs"]
            for path, digest in files.items():
                if inputs.setdefault(path, digest) != digest:
                    raise BadInput(f"{path}: changed since this run was started; use another out=")
            if files:
                self.event("inputs", files=dict(files))  # from which a lost manifest is restored
            self.change_manifest(inputs=inputs)

    def note_type(self, model: str, dtype: str, device: str) -> None:
        """Record the type and device that a model computed in, once each."""
        found = f"{dtype} on {device}"
        if self.types().get(model) != found:
            self.event("type", model=model, type=found)

    def types(self) -> dict[str, str]:
        """Return the last type and device of every model that computed on this machine."""
        noted = [e for e in events(self.path) if e.get("event") == "type"]
        return dict(sorted((e["model"], e["type"]) for e in noted))

    def finish(self) -> None:
        """Gather the stages' counts and the models' types into the manifest; mark as done."""
        files = sorted((self.path / "stages").rglob("counts.jsonl"))
        self.change_manifest(
            counts=[json.loads(line) for f in files for line in f.open()], types=self.types()
        )
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
        self._seconds = self._cpu_seconds = 0.0
        self._ends: dict[str, int] = {}
        self._units: dict[str, set[str]] = {}

    def __enter__(self) -> Stage:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self.path / ".lock", f"{self.name}: another process works on this stage")
        try:
            os.utime(self.path / ".lock")  # opened by this session: see `integrity.redo_later`
            self._open()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def _open(self) -> None:
        known = self.path / "config.json"
        if known.exists():
            refuse_change(known, read_json(known), self.identity, self.identity)
        else:
            write_json(known, to_dict(self.identity))
        status = self.path / "status.json"
        self.done = status.exists() and read_json(status)["state"] == "done"
        self._read_commits()
        if not self.done:
            write_json(status, {"state": "running"})
            self.run.event("stage", stage=self.name)
        self._since, self._cpu_since = time.monotonic(), time.process_time()

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
        self._cpu_seconds += time.process_time() - self._cpu_since
        files = digests(self.path)
        status = {
            "state": "done",
            "seconds": round(self._seconds, 3),
            "cpu_seconds": round(self._cpu_seconds, 3),
            "usage": asdict(self._usage),
            "records": {name: file.count() for name, file in sorted(self._files.items())},
            "files": files,
        }
        now = content(files)
        redo_later(self.run.path, self.name, now)
        write_json(self.path / "status.json", seal(status))
        self.run.event("done", stage=self.name, seconds=status["seconds"], content=now)
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
        at_once: Callable[[], int] | None = None,
    ) -> list[T]:
        """Work through items chunk by chunk, each chunk written once, and return all records.

        Reasons of what is `Unscored` are counted in the stage's file "lost", chunk by chunk.

        Args:
            name: name of the record file, without its ending.
            chunk: items per unit; the same in every run of the stage.
            title: title of the progress bar.
            at_once: number of chunks that are worked on at once; it is asked for if there is any.
        """
        file = self.records(name, cls)
        parts = [(str(i // chunk), items[i : i + chunk]) for i in range(0, len(items), chunk)]
        todo = [(unit, some) for unit, some in parts if unit not in file.units]
        if not todo:
            return file.read()
        with progress.task(title, len(items)) as bar:
            bar.advance(len(items) - sum(len(some) for _, some in todo))
            threads = 1 if at_once is None else at_once()
            results = in_order(work, [some for _, some in todo], threads)
            for unit, some in todo:
                before = meter.mark()
                found = next(results)
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

    def commit(self, filename: str, unit: str, end: int, usage: Usage, crc32: str) -> None:
        """Name a written unit in commits.jsonl, with the length of its file and its checksums."""
        now, cpu_now = time.monotonic(), time.process_time()
        line = {
            "file": filename,
            "unit": unit,
            "end": end,
            "seconds": round(now - self._since, 3),
            "cpu_seconds": round(cpu_now - self._cpu_since, 3),
            "usage": asdict(usage),
            "crc32": crc32,
        }
        with (self.path / "commits.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._account(line)
        self._since, self._cpu_since = now, cpu_now

    def units(self, filename: str) -> set[str]:
        """Return the committed units of a record file."""
        return self._units.setdefault(filename, set())

    def _account(self, line: Mapping[str, Any]) -> None:
        self._ends[line["file"]] = line["end"]
        self.units(line["file"]).add(line["unit"])
        self._usage += Usage(**line["usage"])
        self._seconds += line["seconds"]
        self._cpu_seconds += line.get("cpu_seconds", 0.0)  # 0.1 noted none

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
        """Write the records of a unit and commit it; a unit is written once.

        Raises:
            RunFailed: another process took over the run.
        """
        if unit in self.units:
            raise ValueError(f"{self.path}: unit {unit!r} is already written")
        if self.stage.run.lease is not None:
            self.stage.run.lease.check()
        lines = [to_line(record).encode() for record in records]
        with self.path.open("ab") as file:
            file.writelines(lines)
            file.flush()
            end = file.tell()
        self.stage.commit(self.path.name, unit, end, usage or Usage(), line_sums(lines))

    def read(self) -> list[T]:
        """Return all records, in the order written."""
        return list(read_records(self.path, self.cls))

    def count(self) -> int:
        """Return the number of records in the file."""
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


def refuse_other_recipe(path: Path, recipe: str) -> None:
    """Refuse a folder that holds a run of another recipe or command.

    Raises:
        BadInput: such a run, by its first event.
    """
    starts = (event for event in events(path) if event.get("event") == "start")
    begun = next((event.get("recipe", "") for event in starts), recipe)
    if begun != recipe:
        raise BadInput(
            f"{path}: expected a run of {recipe}, found one of {begun}; use another out="
        )


def _barely_begun(path: Path) -> bool:
    """Return whether a folder holds nothing but what a run killed at its start leaves there."""
    own = {"stages", ".lock", LEASE, "manifest.json", "config.yaml"}
    torn = (".manifest.", ".config.", f"{LEASE}.")
    left = {p.name for p in path.iterdir() if not p.name.startswith(torn)}
    begun = "stages" in left and left <= own and not any((path / "stages").iterdir())
    return begun or not left
